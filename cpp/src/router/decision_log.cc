#include "router/decision_log.h"

#include <algorithm>
#include <utility>

#include "router/explaining.h"

namespace kvroute::detail {
namespace {

constexpr std::size_t kChangesEach = 8;
// Policies key requests by their head, of 16 blocks by default: no more hashes than that are kept.
constexpr std::size_t kMostHashes = 64;

template <typename T>
void append(std::span<const T> from, std::vector<T>& to) {
  to.insert(to.end(), from.begin(), from.end());
}

template <typename T>
std::vector<T> copy(std::span<const T> from) {
  return {from.begin(), from.end()};
}

void prefetch(const void* data, std::size_t bytes) {
  constexpr std::size_t kLine = 64;
  for (std::size_t at = 0; at < bytes; at += kLine) {
    __builtin_prefetch(static_cast<const char*>(data) + at, 1);
  }
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
  if (latest_.size() <= slot) latest_.resize(slot + 1);
  change.before = std::exchange(latest_[slot], changed_);
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

std::shared_ptr<const DecisionLog::Rare> DecisionLog::rare_of(const ScoreInput& input,
                                                              const Choice& choice) {
  const RequestOverrides& asked = input.overrides;
  const bool has_overrides = asked.overlap_credit || asked.prefill_scale || asked.temperature;
  if (input.depths.front().empty() && input.preferences.empty() && choice.given.empty() &&
      choice.excluded.empty() && !has_overrides) {
    return nullptr;
  }
  auto rare = std::make_shared<Rare>();
  for (std::size_t tier = 0; tier < kTiers; ++tier) rare->depths[tier] = copy(input.depths[tier]);
  rare->preferences = copy(input.preferences);
  rare->given = copy(choice.given);
  rare->excluded = copy(choice.excluded);
  rare->overrides = asked;
  return rare;
}

void DecisionLog::record(const ScoreInput& input, const std::shared_ptr<const Policy>& policy,
                         const TargetTable& targets, const Choice& choice) {
  note_changes(input);
  roster_ = roster_of(targets, roster_);
  if (entries_.size() < capacity_) entries_.emplace_back();
  Entry& entry = entries_[next_++ % capacity_];
  entry.num_tokens = input.num_tokens;
  entry.now = input.now;
  entry.report_lifetime_seconds = input.report_lifetime_seconds;
  entry.session = input.session;
  entry.expected_output_tokens = input.expected_output_tokens;
  entry.block_size = input.block_size;
  entry.chosen = choice.chosen;
  entry.changes = changed_;
  entry.fleet = *input.fleet;
  if (entry.policy != policy) entry.policy = policy;
  if (entry.roster != roster_) entry.roster = roster_;
  entry.request_id = choice.request_id;
  entry.hashes.clear();
  append(input.hashes.first(std::min(input.hashes.size(), kMostHashes)), entry.hashes);
  entry.slots = static_cast<std::uint32_t>(input.held.size());
  entry.by_slot.clear();
  append(input.held, entry.by_slot);
  append(input.active, entry.by_slot);
  const bool are_all = input.candidates.size() == roster_->listed.size();
  if (!are_all) append(input.candidates, entry.by_slot);
  entry.candidates = are_all ? 0 : static_cast<std::uint32_t>(input.candidates.size());
  entry.rare = rare_of(input, choice);
  prefetch_next();
}

// What was written a thousand decisions ago is in no cache; the next one need not wait for it.
void DecisionLog::prefetch_next() const {
  if (entries_.size() < capacity_) return;
  const Entry& next = entries_[next_ % capacity_];
  prefetch(next.by_slot.data(), next.by_slot.size() * sizeof(std::uint32_t));
  prefetch(next.hashes.data(), next.hashes.size() * sizeof(std::uint64_t));
  prefetch(&entries_[(next_ + 1) % capacity_], sizeof(Entry));
  prefetch(&changes_[changed_ % changes_.size()], sizeof(Change));
}

// From each slot's last change back to the one in force then: as many steps as changes came since.
DecisionLog::Loads DecisionLog::loads_after(std::uint64_t changes) const {
  Loads loads = base_;
  for (std::uint64_t last : latest_) {
    while (last > changes) last = changes_[(last - 1) % changes_.size()].before;
    if (last > merged_) loads.apply(changes_[(last - 1) % changes_.size()]);
  }
  return loads;
}

DecisionLog::Past DecisionLog::past(std::size_t limit) const {
  Past past;
  const std::uint64_t count = std::min<std::uint64_t>({limit, entries_.size(), next_});
  for (std::uint64_t number = next_ - count; number < next_; ++number) {
    const Entry& entry = entries_[number % capacity_];
    if (entry.changes >= merged_) past.entries_.push_back(entry);  // else its loads are gone
  }
  if (past.entries_.empty()) return past;
  past.first_ = past.entries_.front().changes;
  past.loads_ = loads_after(past.first_);
  const std::uint64_t end = past.entries_.back().changes;
  past.changes_.reserve(end - past.first_);
  for (std::uint64_t i = past.first_; i < end; ++i) {
    past.changes_.push_back(changes_[i % changes_.size()]);
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
  ScoreInput input;
  input.num_tokens = num_tokens;
  input.block_size = block_size;
  input.hashes = hashes;
  input.session = session;
  input.expected_output_tokens = expected_output_tokens;
  const std::span<const std::uint32_t> kept(by_slot);
  input.held = kept.first(slots);
  input.active = kept.subspan(slots, slots);
  input.candidates = candidates == 0 ? std::span<const Slot>(roster->listed)
                                     : std::span<const Slot>(kept.subspan(std::size_t{2} * slots));
  input.block_sizes = roster->block_sizes;
  input.total_blocks = roster->total_blocks;
  input.identities = roster->identities;
  input.turns = roster->turns;
  input.loads = loads.loads;
  input.histories = loads.histories;
  input.fleet = &fleet;
  input.now = now;
  input.report_lifetime_seconds = report_lifetime_seconds;
  if (rare) {
    for (std::size_t tier = 0; tier < kTiers; ++tier) input.depths[tier] = rare->depths[tier];
    input.preferences = rare->preferences;
    input.overrides = rare->overrides;
  }
  return input;
}

DecisionRecord DecisionLog::Entry::read(const Loads& loads) const {
  static const Rare nothing;
  const Rare& more = rare ? *rare : nothing;
  return {.at = now,
          .request_id = request_id,
          .chosen = roster->targets[chosen],
          .explanation =
              explanation_of(*policy, input(loads), more.excluded, roster->targets, more.given)};
}

}  // namespace kvroute::detail
