#include <algorithm>
#include <mutex>

#include "index/tree_core.h"
#include "kvroute/base/error.h"

namespace kvroute::detail {

std::uint32_t TreeCore::predict(Slot slot, std::span<const std::uint64_t> labels, Nanoseconds now) {
  const std::scoped_lock turn(writers_);
  SlotState& state = state_of(slot);
  std::uint32_t added = 0;
  {
    const std::scoped_lock alone(tree_lock_);
    const std::uint64_t tick = tick_.fetch_add(1, std::memory_order_relaxed) + 1;
    find_path(NodeTree::kRoot, 0, labels, slot);
    for (const Segment& segment : path_) {
      added += predict_segment(slot, state, segment, after(now, predicted_ttl_));
      tree_.node(segment.node).last_use.set(tick);
    }
  }
  counters_.predicted += added;
  enforce_limit(path_.empty() ? NodeTree::kRoot : path_.back().node, kNoBound);
  return added;
}

/// What of the segment is not held exactly becomes predicted, or is prolonged.
/// \return how many blocks became held.
std::uint32_t TreeCore::predict_segment(Slot slot, SlotState& state, const Segment& segment,
                                        Nanoseconds deadline) {
  Node& node = tree_.node(segment.node);
  std::uint32_t added = 0;
  const auto assume = [&](std::uint32_t begin, std::uint32_t end) {
    node.predicted.take(slot, begin, end, bytes_.requests);
    node.predicted.add(slot, begin, end, deadline, bytes_.requests);
    added += node.coverage.add(slot, begin, end, node.length, bytes_.coverage);
  };
  exact_.clear();
  note_exact(slot, segment);
  for (auto from = exact_.begin();;) {
    from = std::find(from, exact_.end(), std::uint8_t{0});
    if (from == exact_.end()) break;
    const auto to = std::find(from, exact_.end(), std::uint8_t{1});
    const auto position = [&](auto at) {
      return segment.begin + static_cast<std::uint32_t>(at - exact_.begin());
    };
    assume(position(from), position(to));
    from = to;
  }
  state.held += added;
  state.predicted += added;
  tree_.schedule_expiry(segment.node);
  return added;
}

std::size_t TreeCore::expire(Nanoseconds now) {
  constexpr std::size_t kNodesAtOnce = 1024;
  if (!tree_.expiry().is_due(now)) return 0;
  const std::unique_lock turn(writers_, std::try_to_lock);
  if (!turn.owns_lock()) return 0;
  std::size_t gone = 0;
  for (std::size_t nodes = 0; nodes < kNodesAtOnce;) {
    const auto record = tree_.expiry().pop_due(now);
    if (!record) break;
    if (!tree_.live(record->node) || tree_.node(record->node).expiry_ticket != record->ticket) {
      continue;
    }
    ++nodes;
    tree_.expiry().retire();
    tree_.node(record->node).expiry_ticket = 0;
    gone += expire_node(record->node, now);
  }
  counters_.expired += gone;
  if (gone > 0) all_in_use_ = false;
  return gone;
}

std::size_t TreeCore::expire_node(NodeId id, Nanoseconds now) {
  const std::scoped_lock alone(tree_lock_);
  Node& node = tree_.node(id);
  std::size_t gone = 0;
  const auto end = [&](const PredictedRange& range) {
    const std::uint32_t count = range.end - range.begin;
    let_go(range.slot, *slots_[range.slot], id, range.begin, range.end);
    slots_[range.slot]->predicted -= count;
    gone += count;
  };
  node.predicted.take_due(now, end, bytes_.requests);
  tree_.schedule_expiry(id);
  tree_.prune(id);
  return gone;
}

PinResult TreeCore::pin(Slot slot, std::span<const std::uint64_t> labels) {
  const std::scoped_lock turn(writers_);
  state_of(slot);
  PinResult result;
  if (labels.empty()) return result;
  {
    const std::scoped_lock alone(tree_lock_);
    const std::uint64_t tick = tick_.fetch_add(1, std::memory_order_relaxed) + 1;
    find_path(NodeTree::kRoot, 0, labels, slot);
    for (const Segment& segment : path_) {
      Node& node = tree_.node(segment.node);
      result.newly_active += node.pins.add(slot, segment.end, 1, bytes_.requests);
      node.last_use.set(tick);
    }
  }
  result.pin.block_ = tree_.block_at(path_.back().node, path_.back().end - 1);
  result.pin.depth_ = static_cast<std::uint32_t>(labels.size());
  ++counters_.pins;
  enforce_limit(path_.back().node, kNoBound);
  return result;
}

std::uint32_t TreeCore::unpin(Slot slot, Pin pin) {
  const std::scoped_lock turn(writers_);
  static_cast<void>(find_state(slot));
  if (pin.empty()) return 0;
  if (!tree_.runs().live(pin.block_)) {
    throw InvalidArgument("pin: expected one that is not yet unpinned");
  }
  const BlockPlace place = tree_.place_of(pin.block_);
  const Node& last = tree_.node(place.node);
  if (last.start + place.at + 1 != pin.depth_ || !last.pins.contains(slot, place.at + 1)) {
    throw InvalidArgument("pin: expected one of slot " + std::to_string(slot) +
                          " that is not yet unpinned");
  }
  const std::scoped_lock alone(tree_lock_);
  std::uint32_t stopped = 0;
  std::uint32_t end = place.at + 1;
  for (NodeId id = place.node; id != NodeTree::kRoot;) {
    Node& node = tree_.node(id);
    stopped += node.pins.remove(slot, end, bytes_.requests).value_or(0);
    id = node.parent;
    end = tree_.node(id).length;
  }
  --counters_.pins;
  all_in_use_ = false;
  tree_.prune(place.node);
  return stopped;
}

}  // namespace kvroute::detail
