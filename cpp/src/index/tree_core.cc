#include "index/tree_core.h"

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>

#include "kvroute/base/error.h"

namespace kvroute::detail {
namespace {

constexpr std::size_t kSmallestLimit = std::size_t{1} << 20;

void check_limit(std::optional<std::size_t> limit) {
  if (limit && *limit < kSmallestLimit) {
    throw InvalidArgument("memory_limit: expected at least " + std::to_string(kSmallestLimit) +
                          " bytes, got " + std::to_string(*limit));
  }
}

IndexOptions checked(const IndexOptions& options) {
  if (!(options.predicted_ttl_seconds > 0) || options.predicted_ttl_seconds > 1e9) {
    throw InvalidArgument("predicted_ttl_seconds: expected a positive number of at most 1e9, got " +
                          std::to_string(options.predicted_ttl_seconds));
  }
  check_limit(options.memory_limit);
  return options;
}

void check(Slot slot) {
  if (slot >= kMaxTargets) {
    throw InvalidArgument("slot: expected a number below " + std::to_string(kMaxTargets) +
                          ", got " + std::to_string(slot));
  }
}

}  // namespace

TreeCore::TreeCore(const IndexOptions& options, std::size_t most_granules)
    : options_(checked(options)),
      most_granules_(most_granules),
      predicted_ttl_(seconds_to_ns(options.predicted_ttl_seconds)),
      limit_(options.memory_limit),
      waiting_(std::make_unique<WaitingRoom>(options.max_waiting, &bytes_->waiting)) {}

void TreeCore::set_memory_limit(std::optional<std::size_t> limit) {
  check_limit(limit);
  {
    const std::scoped_lock turn(writers_);
    heap_.note(bytes_->total());
    limit_ = limit;
    all_in_use_ = false;  // what came while the limit was higher may be forgotten
  }
  forget_in_steps();
  relieve_heap();
}

/// After much has been freed; the caller holds no lock.
void TreeCore::relieve_heap() {
  {
    const std::scoped_lock turn(writers_);
    if (!heap_.due(bytes_->total())) return;
  }
  HeapRelief::give_back();
}

void TreeCore::forget_in_steps() {
  constexpr std::size_t kLeavesAtOnce = 256;
  const std::scoped_lock turn(writers_);
  while (!enforce_limit(NodeTree::kRoot, kLeavesAtOnce)) writers_.give_way();
}

Holder& TreeCore::holder_of(LaneId lane) {
  check(lane.slot);
  auto& holders = holders_[index_of(lane.tier)];
  if (lane.slot >= holders.size()) holders.resize(lane.slot + 1);
  if (holders[lane.slot] == nullptr) {
    holders[lane.slot] = std::make_unique<Holder>(&bytes_->names);
    bytes_->names += sizeof(Holder);
    if (lane.slot >= slot_count_) {
      const std::scoped_lock alone(tree_lock_);
      slot_count_ = lane.slot + 1;
    }
  }
  return *holders[lane.slot];
}

const Holder* TreeCore::find_holder(LaneId lane) const {
  check(lane.slot);
  const auto& holders = holders_[index_of(lane.tier)];
  return lane.slot < holders.size() ? holders[lane.slot].get() : nullptr;
}

Holder* TreeCore::find_holder(LaneId lane) {
  return const_cast<Holder*>(std::as_const(*this).find_holder(lane));
}

/// Keeps `lower_slots_` true to what the slot holds. Under `tree_lock_`.
void TreeCore::note_lower(Slot slot) {
  bool any = false;
  for (std::size_t tier = 1; tier < kTiers; ++tier) {
    const Holder* holder = find_holder({slot, static_cast<Tier>(tier)});
    any = any || (holder != nullptr && holder->held > 0);
  }
  const auto at = std::lower_bound(lower_slots_.begin(), lower_slots_.end(), slot);
  const bool listed = at != lower_slots_.end() && *at == slot;
  if (any && !listed) lower_slots_.insert(at, slot);
  if (!any && listed) lower_slots_.erase(at);
}

/// Whether so many further blocks below one place can get ids.
bool TreeCore::has_ids_for(std::size_t blocks) const {
  constexpr std::size_t kMerging = 32;  // granules that a run that moves has twice for a moment
  const std::size_t needed = blocks / RunStore::kGranule + 1 + kMerging;
  const std::size_t used = tree_->runs().granules();
  return used < most_granules_ && needed <= most_granules_ - used;
}

/// Sets `path_`, and makes the blocks of it that are not there.
/// \throws InvalidArgument, with nothing changed, if there are no ids for them
void TreeCore::find_path(NodeId from, std::uint32_t consumed,
                         std::span<const std::uint64_t> labels) {
  if (!has_ids_for(labels.size())) {
    throw InvalidArgument("local_hashes: expected blocks that there are ids for beside the " +
                          std::to_string(tree_->runs().blocks()) + " in the index, got " +
                          std::to_string(labels.size()) + " more");
  }
  path_.clear();
  tree_->ensure_path(from, consumed, labels, path_);
}

/// Appends to `exact_` which blocks of the segment the lane holds exactly.
void TreeCore::note_exact(LaneId lane, const Segment& segment) {
  const Node& node = tree_->node(segment.node);
  const std::size_t first = exact_.size();
  exact_.resize(first + segment.end - segment.begin, 0);
  node.coverage_in(lane.tier).mark(lane.slot, segment.begin, segment.end, exact_.data() + first);
  if (lane.tier == Tier::device && !node.predicted().empty()) {
    node.predicted().unmark(lane.slot, segment.begin, segment.end, exact_.data() + first);
  }
}

/// Brings the shared table up to date with blocks that have moved or gone. Before any block is
/// made, and before any name is looked up.
void TreeCore::update_shared_names() {
  constexpr std::size_t kAhead = 16;
  constexpr std::size_t kKept = 4096;
  std::vector<MovedName>& moved = tree_->runs().moved_names();
  for (const MovedName& name : moved) shared_.replace(name.name, name.from, name.to);
  moved.clear();
  std::vector<FreedName>& freed = tree_->runs().freed_names();
  for (std::size_t i = 0; i < freed.size(); ++i) {
    if (i + kAhead < freed.size()) shared_.prefetch(freed[i + kAhead].name);
    shared_.erase(freed[i].name, freed[i].block);
  }
  freed.clear();
  if (freed.capacity() > kKept) freed.shrink_to_fit();
}

std::optional<std::uint64_t> TreeCore::namespace_seed_of(Slot slot, std::uint64_t name) const {
  const std::shared_lock turn(writers_);
  const BlockId block = find_in_any_tier(slot, stored_form(name));
  if (block == kNoId) return std::nullopt;
  return tree_->runs().namespace_seed(tree_->runs().position(block).run);
}

std::size_t TreeCore::held_blocks(Slot slot) const {
  const std::shared_lock turn(writers_);
  const Holder* holder = find_holder({slot, Tier::device});
  return holder != nullptr ? holder->held : 0;
}

void TreeCore::held_blocks(std::vector<std::size_t>& by_slot) const {
  const std::shared_lock turn(writers_);
  by_slot.assign(slot_count_, 0);
  const auto& holders = holders_[index_of(Tier::device)];
  for (std::size_t slot = 0; slot < holders.size(); ++slot) {
    if (holders[slot] != nullptr) by_slot[slot] = holders[slot]->held;
  }
}

IndexStats TreeCore::stats() const {
  const std::shared_lock turn(writers_);
  IndexStats stats = counters_;
  stats.bytes = *bytes_;
  stats.nodes = tree_->size();
  stats.blocks = tree_->runs().blocks();
  stats.pins = pins_;
  stats.waiting = waiting_->blocks();
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    for (const auto& holder : holders_[tier]) {
      if (holder == nullptr) continue;
      stats.held_predicted += holder->predicted;
      (tier == 0 ? stats.held_exact : stats.held_lower) += holder->held - holder->predicted;
    }
  }
  return stats;
}

}  // namespace kvroute::detail
