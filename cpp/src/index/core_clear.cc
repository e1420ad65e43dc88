#include <algorithm>
#include <mutex>

#include "index/tree_core.h"

namespace kvroute::detail {

void TreeCore::clear(Slot slot, bool release) {
  {
    const std::scoped_lock turn(writers_);
    static_cast<void>(find_holder({slot, Tier::device}));  // checks the slot
    heap_.note(bytes_->total());
    waiting_->clear(slot);
    if (release) tree_->capacity().set_capacity(slot, std::nullopt);
  }
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    clear_lane({slot, static_cast<Tier>(tier)}, release);
  }
  relieve_heap();
}

void TreeCore::clear(Slot slot, Tier tier) {
  {
    const std::scoped_lock turn(writers_);
    static_cast<void>(find_holder({slot, tier}));  // checks the slot
    heap_.note(bytes_->total());
    waiting_->clear(slot, tier);
  }
  clear_lane({slot, tier}, false);
  relieve_heap();
}

/// Sweeps the tree in small steps, with the names of a block going together with the block: between
/// two steps the tree is as whole as after any event, and other writers and readers get their turn.
/// A node that another writer splits or merges meanwhile may leave a part behind the sweep, so it
/// is repeated until nothing is held; the last times without letting others in.
void TreeCore::clear_lane(LaneId lane, bool release) {
  constexpr int kSweeps = 8;
  for (int sweep = 0;; ++sweep) {
    const bool last = sweep >= kSweeps;
    SweepPlace place;
    const std::scoped_lock turn(writers_);
    while (find_holder(lane) != nullptr && find_holder(lane)->held > 0 && !place.done(*tree_)) {
      clear_some(lane, *find_holder(lane), place);
      if (!last) writers_.give_way();
    }
    Holder* const holder = find_holder(lane);
    if (holder == nullptr) return;
    if (holder->held > 0) continue;
    if (lane.tier == Tier::device) tree_->capacity().clear(lane.slot);
    if (release) {
      bytes_->names -= sizeof(Holder);
      holders_[index_of(lane.tier)][lane.slot].reset();
    }
    return;
  }
}

/// A bounded step of a sweep.
void TreeCore::clear_some(LaneId lane, Holder& holder, SweepPlace& place) {
  constexpr std::uint32_t kNodesSeen = 1024;
  constexpr std::uint32_t kBlocks = 1024;
  std::uint32_t blocks = 0;
  touched_.clear();
  for (std::uint32_t seen = 0; seen < kNodesSeen && blocks < kBlocks && !place.done(*tree_);) {
    const bool held = tree_->live(place.node) && place.node != NodeTree::kRoot && place.end > 0 &&
                      !tree_->node(place.node).coverage_in(lane.tier).empty() &&
                      tree_->node(place.node)
                              .coverage_in(lane.tier)
                              .held(lane.slot, tree_->node(place.node).length) > 0;
    if (!held) {
      ++seen;
      ++place.node;
      place.end = kWholeNode;
      continue;
    }
    Node& node = tree_->node(place.node);
    const std::uint32_t end = std::min(place.end, node.length);
    const std::uint32_t begin = end > kBlocks ? end - kBlocks : 0;
    drop_exact_names(lane, holder, {place.node, begin, end});
    blocks += end - begin;
    const std::scoped_lock alone(tree_lock_);
    if (lane.tier == Tier::device && !node.predicted().empty()) {
      holder.predicted -=
          node.make_extras(bytes_->nodes).predicted.take(lane.slot, begin, end, bytes_->requests);
      node.tidy_extras(bytes_->nodes);
    }
    counters_.removed += let_go(lane, holder, place.node, begin, end);
    place.end = begin;
    const bool nothing_left = node.coverage_in(lane.tier).held(lane.slot, node.length) == 0;
    if (begin == 0 || nothing_left) touched_.push_back(place.node);
  }
  {
    const std::scoped_lock alone(tree_lock_);
    tidy_touched();
  }
  update_shared_names();
  all_in_use_ = false;
}

}  // namespace kvroute::detail
