#include "router/decision_log.h"

#include <algorithm>

#include "router/explaining.h"

namespace kvroute::detail {
namespace {

constexpr std::size_t kChangesEach = 8;
// Policies key requests by their head: more hashes than that are not kept.
constexpr std::size_t kMostHashes = 256;

template <typename T>
void copy(std::span<const T> from, std::vector<T>& to) {
  to.assign(from.begin(), from.end());
}

}  // namespace

void DecisionLog::Loads::apply(const Change& change) {
  if (change.slot >= loads.size()) {
    loads.resize(change.slot + 1);
    histories.resize(change.slot + 1);
  }
  loads[change.slot] = change.load;
  histories[change.slot] = change.history;
}

void DecisionLog::push(Slot slot, const ScoreInput& input) {
  const std::size_t most = kChangesEach * capacity_;
  if (changed_ - merged_ == most) base_.apply(changes_[merged_++ % most]);
  if (changes_.size() < most) changes_.emplace_back();
  Change& change = changes_[changed_++ % most];
  change.slot = slot;
  change.load = input.loads[slot];
  change.history = input.histories[slot];
}

void DecisionLog::note_changes(const ScoreInput& input) {
  if (revisions_.size() < input.loads.size()) revisions_.resize(input.loads.size());
  for (const Slot slot : input.candidates) {
    const std::uint64_t revision = input.loads[slot].revision;
    if (revision == revisions_[slot]) continue;
    revisions_[slot] = revision;
    push(slot, input);
  }
}

void DecisionLog::record(const ScoreInput& input, std::shared_ptr<const Policy> policy,
                         const TargetTable& targets, const Choice& choice) {
  note_changes(input);
  roster_ = roster_of(targets, roster_);
  if (entries_.size() < capacity_) entries_.emplace_back();
  Entry& entry = entries_[next_ % capacity_];
  entry.number = next_++;
  entry.changes = changed_;
  entry.facts.num_tokens = input.num_tokens;
  entry.facts.block_size = input.block_size;
  entry.facts.session = input.session;
  entry.facts.expected_output_tokens = input.expected_output_tokens;
  entry.facts.overrides = input.overrides;
  entry.facts.now = input.now;
  entry.facts.report_lifetime_seconds = input.report_lifetime_seconds;
  entry.fleet = *input.fleet;
  entry.policy = std::move(policy);
  entry.roster = roster_;
  entry.chosen = choice.chosen;
  entry.request_id = choice.request_id;
  copy(input.hashes.first(std::min(input.hashes.size(), kMostHashes)), entry.hashes);
  copy(input.candidates, entry.candidates);
  copy(choice.excluded, entry.excluded);
  copy(input.held, entry.held);
  for (std::size_t tier = 0; tier < kTiers; ++tier) copy(input.depths[tier], entry.depths[tier]);
  copy(input.active, entry.active);
  copy(input.preferences, entry.preferences);
  copy(choice.given, entry.given);
}

DecisionLog::Past DecisionLog::past(std::size_t limit) const {
  Past past;
  past.loads_ = base_;
  past.first_ = merged_;
  for (std::uint64_t i = merged_; i < changed_; ++i) {
    past.changes_.push_back(changes_[i % changes_.size()]);
  }
  const std::uint64_t count = std::min<std::uint64_t>({limit, entries_.size(), next_});
  for (std::uint64_t number = next_ - count; number < next_; ++number) {
    const Entry& entry = entries_[number % capacity_];
    if (entry.changes >= merged_) past.entries_.push_back(entry);  // else its loads are gone
  }
  return past;
}

std::vector<DecisionRecord> DecisionLog::Past::read() {
  std::vector<DecisionRecord> records;
  records.reserve(entries_.size());
  std::uint64_t applied = first_;
  for (const Entry& entry : entries_) {
    for (; applied < entry.changes; ++applied) loads_.apply(changes_[applied - first_]);
    records.push_back(entry.read(loads_));
  }
  return records;
}

ScoreInput DecisionLog::Entry::input(const Loads& loads) const {
  ScoreInput input = facts;
  input.hashes = hashes;
  input.candidates = candidates;
  input.held = held;
  for (std::size_t tier = 0; tier < kTiers; ++tier) input.depths[tier] = depths[tier];
  input.active = active;
  input.preferences = preferences;
  input.block_sizes = roster->block_sizes;
  input.total_blocks = roster->total_blocks;
  input.identities = roster->identities;
  input.turns = roster->turns;
  input.loads = loads.loads;
  input.histories = loads.histories;
  input.fleet = &fleet;
  return input;
}

DecisionRecord DecisionLog::Entry::read(const Loads& loads) const {
  return {.at = facts.now,
          .request_id = request_id,
          .chosen = roster->targets[chosen],
          .explanation = explanation_of(*policy, input(loads), excluded, roster->targets, given)};
}

}  // namespace kvroute::detail
