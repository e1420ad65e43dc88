#include <algorithm>
#include <mutex>

#include "index/tree_core.h"

namespace kvroute::detail {

/// Sweeps the tree in small steps, with the names of a block going together with the block: between
/// two steps the tree is as whole as after any event, and other writers and readers get their turn.
/// A node that another writer splits meanwhile may leave its new part behind the sweep, so it is
/// repeated until nothing is held; the last time without letting others in.
void TreeCore::clear(Slot slot, bool release) {
  constexpr int kSweeps = 8;
  for (int sweep = 0;; ++sweep) {
    const bool last = sweep == kSweeps;
    SweepPlace place;
    std::unique_lock turn(writers_);
    while (find_state(slot) != nullptr && slots_[slot]->held > 0 && !place.done(tree_)) {
      clear_some(slot, *slots_[slot], place);
      if (last) continue;
      turn.unlock();
      turn.lock();
    }
    if (find_state(slot) == nullptr) return;
    if (slots_[slot]->held > 0 && !last) continue;
    slots_[slot] = release ? nullptr : std::make_unique<SlotState>(&bytes_.names);
    return;
  }
}

/// A bounded step of a sweep.
void TreeCore::clear_some(Slot slot, SlotState& state, SweepPlace& place) {
  constexpr std::uint32_t kNodesSeen = 1024;
  constexpr std::uint32_t kBlocks = 1024;
  std::uint32_t blocks = 0;
  for (std::uint32_t seen = 0; seen < kNodesSeen && blocks < kBlocks && !place.done(tree_);) {
    const bool held = tree_.live(place.node) && place.node != NodeTree::kRoot && place.end > 0 &&
                      tree_.node(place.node).coverage.held(slot, tree_.node(place.node).length) > 0;
    if (!held) {
      ++seen;
      ++place.node;
      place.end = kWholeNode;
      continue;
    }
    Node& node = tree_.node(place.node);
    const std::uint32_t end = std::min(place.end, node.length);
    const std::uint32_t begin = end > kBlocks ? end - kBlocks : 0;
    exact_.clear();
    note_exact(slot, {place.node, begin, end});
    for (std::uint32_t at = begin; at < end; ++at) {
      if (exact_[at - begin] == 0) continue;
      state.names.forget(tree_.block_at(place.node, at), tree_.shared_name(place.node, at));
    }
    place.end = begin;
    blocks += end - begin;
    const std::scoped_lock alone(tree_lock_);
    state.predicted -= node.predicted.take(slot, begin, end, bytes_.requests);
    counters_.removed += let_go(slot, state, place.node, begin, end);
    tree_.prune(place.node);
  }
  state.names.shrink_sparse(SlotNames::kTablesAtOnce);
  all_in_use_ = false;
}

}  // namespace kvroute::detail
