#include "router/decision_log.h"

#include <algorithm>
#include <utility>

namespace kvroute::detail {
namespace {

constexpr std::size_t kChangesEach = 8;
constexpr std::size_t kMostInPage = 32;
// Policies key requests by their head, of 16 blocks by default: no more hashes than that are kept.
constexpr std::size_t kMostHashes = 64;

template <typename T>
void append(std::span<const T> from, std::vector<T>& to) {
  to.insert(to.end(), from.begin(), from.end());
}

template <typename T>
void assign(std::span<const T> from, std::vector<T>& to) {
  to.assign(from.begin(), from.end());
}

template <typename T>
bool has_room(const std::vector<T>& values, std::size_t more) {
  return values.capacity() - values.size() >= more;
}

void prefetch(const void* data, std::size_t bytes) {
  constexpr std::size_t kLine = 64;
  for (std::size_t at = 0; at < bytes; at += kLine) {
    __builtin_prefetch(static_cast<const char*>(data) + at, 1);
  }
}

// So much behind the end of `values`, to be written soon.
template <typename T>
void prefetch_end(const std::vector<T>& values, std::size_t count) {
  const std::size_t room = values.capacity() - values.size();
  prefetch(values.data() + values.size(), std::min(room, count) * sizeof(T));
}

bool is_rare(const ScoreInput& input, const DecisionLog::Choice& choice) {
  const RequestOverrides& asked = input.overrides;
  const bool has_overrides = asked.overlap_credit || asked.prefill_scale || asked.temperature ||
                             asked.assume_kv_reuse || asked.track_prefill_tokens;
  return !input.depths.front().empty() || !input.preferences.empty() || !choice.given.empty() ||
         has_overrides;
}

void take_rare(const ScoreInput& input, const DecisionLog::Choice& choice, DecisionEntry& entry) {
  entry.is_rare = is_rare(input, choice);
  if (!entry.is_rare) return;
  if (!entry.rare) entry.rare = std::make_unique<RareInput>();
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    assign(input.depths[tier], entry.rare->depths[tier]);
  }
  assign(input.preferences, entry.rare->preferences);
  assign(choice.given, entry.rare->given);
  entry.rare->overrides = input.overrides;
}

void append_standings(const ScoreInput& input, const DecisionLog::Choice& choice,
                      std::vector<Standing>& standings) {
  const std::size_t begin = standings.size();
  standings.resize(begin + input.held.size());
  Standing* const by_slot = standings.data() + begin;
  for (const Slot slot : input.candidates) by_slot[slot] = Standing::candidate();
  for (const auto& [slot, why] : choice.excluded) by_slot[slot] = Standing::excluded(why);
}

}  // namespace

DecisionLog::DecisionLog(std::size_t capacity, std::size_t most_bytes)
    : capacity_(capacity),
      most_bytes_(most_bytes),
      page_size_(std::min(capacity / 16 + 1, kMostInPage)) {}

void DecisionLog::drop_oldest() {
  std::shared_ptr<DecisionPage> page = std::move(pages_.front());
  pages_.erase(pages_.begin());
  kept_ -= page->count;
  changes_ -= page->changes.size();
  bytes_ -= page->bytes;
  // Who reads it keeps it: it is not to be used again.
  if (page->readers.load(std::memory_order_acquire) == 0) spare_ = std::move(page);
}

std::shared_ptr<DecisionPage> DecisionLog::blank_page() {
  std::shared_ptr<DecisionPage> page = std::exchange(spare_, nullptr);
  if (!page) {
    page = std::make_shared<DecisionPage>();
    page->entries.resize(page_size_);
    page->hashes.reserve(page_size_ * kMostHashes);
  }
  page->first = next_;
  page->count = 0;
  page->changes.clear();
  page->hashes.clear();
  page->by_slot.clear();
  page->standings.clear();
  for (DecisionEntry& entry : page->entries) {
    if (entry.roster != roster_) entry.roster.reset();
  }
  return page;
}

// A page with room for one more decision. Its arrays get their memory while it is empty.
DecisionPage& DecisionLog::page_for(std::size_t changes, std::size_t slots, bool are_all) {
  if (!pages_.empty()) {
    DecisionPage& last = *pages_.back();
    if (last.count < page_size_ && has_room(last.changes, changes) &&
        has_room(last.by_slot, 2 * slots) && (are_all || has_room(last.standings, slots))) {
      return last;
    }
  }
  const auto is_beyond = [&](std::size_t decisions, std::size_t more) {
    return !pages_.empty() && (kept_ - pages_.front()->count >= decisions ||
                               changes_ + more > kChangesEach * capacity_);
  };
  while (is_beyond(capacity_, changes)) drop_oldest();
  std::shared_ptr<DecisionPage> page = blank_page();
  page->changes.reserve(std::max(changes, kChangesEach * page_size_));
  page->by_slot.reserve(2 * slots * page_size_);
  page->standings.reserve(slots * page_size_);
  page->bytes = page->own_bytes();
  bytes_ += page->bytes;
  return *pages_.emplace_back(std::move(page));
}

// Eight at a time: in most of them nothing has changed.
void DecisionLog::find_changed(std::span<const std::uint64_t> revisions) {
  constexpr std::size_t kStep = 8;
  changed_.clear();
  if (revisions_.size() < revisions.size()) {
    revisions_.resize(revisions.size());
    now_.resize(revisions.size());
  }
  const auto find = [&](std::size_t begin, std::size_t end) {
    for (std::size_t slot = begin; slot < end; ++slot) {
      if (revisions[slot] != revisions_[slot]) changed_.push_back(static_cast<Slot>(slot));
    }
  };
  const std::size_t whole = revisions.size() / kStep * kStep;
  for (std::size_t begin = 0; begin < whole; begin += kStep) {
    std::uint64_t different = 0;
    for (std::size_t i = 0; i < kStep; ++i) {
      different |= revisions[begin + i] ^ revisions_[begin + i];
    }
    if (different != 0) find(begin, begin + kStep);
  }
  find(whole, revisions.size());
}

void DecisionLog::note_changes(DecisionPage& page, const ScoreInput& input,
                               std::span<const std::uint64_t> revisions) {
  for (const Slot slot : changed_) {
    page.changes.push_back({slot, now_[slot]});
    now_[slot].load = input.loads[slot];
    now_[slot].requests = input.histories[slot].requests;
    revisions_[slot] = revisions[slot];
  }
  changes_ += changed_.size();
}

void DecisionLog::record(const ScoreInput& input, std::span<const std::uint64_t> revisions,
                         const std::shared_ptr<const Policy>& policy,
                         const std::shared_ptr<const Roster>& roster, const Choice& choice) {
  find_changed(revisions);
  const bool is_new_roster = roster_ != roster;
  if (is_new_roster) roster_ = roster;
  const bool are_all = input.candidates.size() == roster_->listed.size();
  DecisionPage& page = page_for(changed_.size(), input.held.size(), are_all);
  note_changes(page, input, revisions);
  DecisionEntry& entry = page.entries[page.count];
  const std::size_t bytes_before = entry.more_bytes();
  entry.num_tokens = input.num_tokens;
  entry.now = input.now;
  entry.report_lifetime_seconds = input.report_lifetime_seconds;
  entry.session = input.session;
  entry.expected_output_tokens = input.expected_output_tokens;
  entry.block_size = input.block_size;
  entry.chosen = choice.chosen;
  entry.changes = static_cast<std::uint32_t>(page.changes.size());
  entry.fleet = *input.fleet;
  if (entry.policy != policy) entry.policy = policy;
  if (entry.roster != roster_) entry.roster = roster_;
  entry.request_id = choice.request_id;
  entry.hashes = static_cast<std::uint32_t>(page.hashes.size());
  entry.hash_count = static_cast<std::uint32_t>(std::min(input.hashes.size(), kMostHashes));
  append(input.hashes.first(entry.hash_count), page.hashes);
  entry.by_slot = static_cast<std::uint32_t>(page.by_slot.size());
  entry.slots = static_cast<std::uint32_t>(input.held.size());
  append(input.held, page.by_slot);
  append(input.active, page.by_slot);
  entry.standings = static_cast<std::uint32_t>(page.standings.size());
  entry.are_all = are_all;
  if (!are_all) append_standings(input, choice, page.standings);
  take_rare(input, choice, entry);
  ++page.count;
  ++kept_;
  ++next_;
  const std::size_t more =
      entry.more_bytes() - bytes_before + (is_new_roster ? roster_->bytes() : 0);
  page.bytes += more;
  bytes_ += more;
  while (bytes_ > most_bytes_ && pages_.size() > 1) drop_oldest();
  prefetch_next(page, input.held.size());
  prefetch(&now_[choice.chosen], sizeof(LoadState));  // the load that changes next
}

// What was written a thousand decisions ago is in no cache; the next one need not wait for it.
void DecisionLog::prefetch_next(const DecisionPage& page, std::size_t slots) {
  prefetch_end(page.changes, 1);
  prefetch_end(page.hashes, kMostHashes);
  prefetch_end(page.by_slot, 2 * slots);
  if (page.count < page.entries.size()) {
    prefetch(&page.entries[page.count], sizeof(DecisionEntry));
  }
}

}  // namespace kvroute::detail
