#include "router/decision_reading.h"

#include <algorithm>

#include "router/explaining.h"

namespace kvroute::detail {
namespace {

constexpr std::size_t kLoadsAtOnce = 64;

}  // namespace

DecisionReading::~DecisionReading() {
  for (const Seen& seen : pages_) seen.page->readers.fetch_sub(1, std::memory_order_release);
}

// Decisions go on between the steps. What they change of a load that was copied before, or will be
// copied later, is in the pages that are seen at the end, so that going back from there leads to
// the loads of any decision before the first step.
bool DecisionReading::take(const DecisionLog& log) {
  if (!has_begun_) {
    has_begun_ = true;
    end_ = log.next_;
    const std::uint64_t count = std::min({limit_, log.capacity_, log.kept_});
    begin_ = end_ - count;
    if (count == 0) return true;
  }
  const std::size_t slots = log.now_.size();
  if (loads_.size() < slots) {
    const std::size_t last = std::min(loads_.size() + kLoadsAtOnce, slots);
    if (loads_.capacity() < slots) {
      loads_.reserve(slots);
      histories_.reserve(slots);
    }
    for (std::size_t slot = loads_.size(); slot < last; ++slot) {
      loads_.push_back(log.now_[slot].load);
      histories_.push_back({.requests = log.now_[slot].requests, .first_tokens = {}});
    }
    if (last < slots) return false;
  }
  see_pages(log);
  return true;
}

void DecisionReading::see_pages(const DecisionLog& log) {
  pages_.reserve(log.pages_.size());
  for (const std::shared_ptr<DecisionPage>& page : log.pages_) {
    if (page->first + page->count <= begin_) continue;
    page->readers.fetch_add(1, std::memory_order_relaxed);
    pages_.push_back({.page = page,
                      .first = page->first,
                      .entries = std::span(page->entries).first(page->count),
                      .changes = page->changes,
                      .hashes = page->hashes.data(),
                      .by_slot = page->by_slot.data(),
                      .standings = page->standings.data()});
  }
}

void DecisionReading::go_back(const LoadChange& change) {
  loads_[change.slot] = change.before.load;
  histories_[change.slot].requests = change.before.requests;
}

std::vector<DecisionRecord> DecisionReading::records() {
  std::vector<DecisionRecord> records;
  for (std::size_t at = pages_.size(); at-- > 0;) {
    const Seen& seen = pages_[at];
    std::size_t changes = seen.changes.size();
    for (std::size_t i = seen.entries.size(); i-- > 0;) {
      const DecisionEntry& entry = seen.entries[i];
      while (changes > entry.changes) go_back(seen.changes[--changes]);
      const std::uint64_t number = seen.first + i;
      if (number >= begin_ && number < end_) records.push_back(record_of(seen, entry));
    }
    while (changes > 0) go_back(seen.changes[--changes]);
  }
  std::ranges::reverse(records);
  return records;
}

void DecisionReading::find_candidates(const Seen& seen, const DecisionEntry& entry) {
  candidates_.clear();
  excluded_.clear();
  if (entry.are_all) {
    candidates_ = entry.roster->listed;
    return;
  }
  const std::span<const Standing> standings(seen.standings + entry.standings, entry.slots);
  for (Slot slot = 0; slot < standings.size(); ++slot) {
    if (standings[slot].is_candidate()) candidates_.push_back(slot);
    if (const auto why = standings[slot].reason()) excluded_.emplace_back(slot, *why);
  }
}

ScoreInput DecisionReading::input_of(const Seen& seen, const DecisionEntry& entry) const {
  ScoreInput input;
  input.num_tokens = entry.num_tokens;
  input.block_size = entry.block_size;
  input.hashes = {seen.hashes + entry.hashes, entry.hash_count};
  input.session = entry.session;
  input.expected_output_tokens = entry.expected_output_tokens;
  const std::uint32_t* const by_slot = seen.by_slot + entry.by_slot;
  input.held = {by_slot, entry.slots};
  input.active = {by_slot + entry.slots, entry.slots};
  input.candidates = candidates_;
  entry.roster->give_to(input);
  input.loads = loads_;
  input.histories = histories_;
  input.fleet = &entry.fleet;
  input.now = entry.now;
  input.report_lifetime_seconds = entry.report_lifetime_seconds;
  if (entry.is_rare) {
    for (std::size_t tier = 0; tier < kTiers; ++tier) {
      input.depths[tier] = entry.rare->depths[tier];
    }
    input.preferences = entry.rare->preferences;
    input.overrides = entry.rare->overrides;
  }
  return input;
}

DecisionRecord DecisionReading::record_of(const Seen& seen, const DecisionEntry& entry) {
  find_candidates(seen, entry);
  std::span<const double> given;
  if (entry.is_rare) given = entry.rare->given;
  return {.at = entry.now,
          .request_id = entry.request_id,
          .chosen = entry.roster->targets[entry.chosen],
          .explanation = explanation_of(*entry.policy, input_of(seen, entry), excluded_,
                                        entry.roster->targets, given)};
}

}  // namespace kvroute::detail
