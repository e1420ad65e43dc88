#include <algorithm>
#include <mutex>

#include "index/tree_core.h"
#include "kvroute/base/error.h"

namespace kvroute::detail {

std::uint32_t TreeCore::predict(Slot slot, std::span<const std::uint64_t> labels, Nanoseconds now) {
  const std::scoped_lock turn(writers_);
  Holder& holder = holder_of({slot, Tier::device});
  std::uint32_t added = 0;
  {
    const std::scoped_lock alone(tree_lock_);
    const std::uint32_t tick = next_tick();
    find_path(NodeTree::kRoot, 0, labels);
    for (const Segment& segment : path_) {
      added += predict_segment(slot, holder, segment, after(now, predicted_ttl_));
      tree_->node(segment.node).last_use.set(tick);
    }
  }
  counters_.predicted += added;
  enforce_limit(path_.empty() ? NodeTree::kRoot : path_.back().node, kNoBound);
  return added;
}

/// What of the segment is not held exactly becomes predicted, or is prolonged.
/// \return how many blocks became held.
std::uint32_t TreeCore::predict_segment(Slot slot, Holder& holder, const Segment& segment,
                                        Nanoseconds deadline) {
  Node& node = tree_->node(segment.node);
  std::uint32_t added = 0;
  const auto assume = [&](std::uint32_t begin, std::uint32_t end) {
    PredictedRanges& predicted = node.make_extras(bytes_->nodes).predicted;
    predicted.take(slot, begin, end, bytes_->requests);
    predicted.add(slot, begin, end, deadline, bytes_->requests);
    added += node.coverage.add(slot, begin, end, node.length, bytes_->coverage);
  };
  exact_.clear();
  note_exact({slot, Tier::device}, segment);
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
  holder.held += added;
  holder.predicted += added;
  tree_->schedule_expiry(segment.node);
  return added;
}

std::size_t TreeCore::expire(Nanoseconds now) {
  constexpr std::size_t kNodesAtOnce = 1024;
  if (!tree_->expiry().is_due(now)) return 0;
  const std::unique_lock turn(writers_, std::try_to_lock);
  if (!turn.owns_lock()) return 0;
  std::size_t gone = 0;
  for (std::size_t nodes = 0; nodes < kNodesAtOnce;) {
    const auto record = tree_->expiry().pop_due(now);
    if (!record) break;
    if (!tree_->live(record->node) ||
        tree_->node(record->node).extras().expiry_ticket != record->ticket) {
      continue;
    }
    ++nodes;
    tree_->expiry().retire();
    tree_->node(record->node).make_extras(bytes_->nodes).expiry_ticket = 0;
    gone += expire_node(record->node, now);
  }
  forget_freed_names();
  counters_.expired += gone;
  if (gone > 0) all_in_use_ = false;
  return gone;
}

std::size_t TreeCore::expire_node(NodeId id, Nanoseconds now) {
  const std::scoped_lock alone(tree_lock_);
  Node& node = tree_->node(id);
  std::size_t gone = 0;
  const auto end = [&](const PredictedRange& range) {
    const LaneId lane{range.slot, Tier::device};
    Holder& holder = *find_holder(lane);
    const std::uint32_t count = range.end - range.begin;
    let_go(lane, holder, id, range.begin, range.end);
    holder.predicted -= count;
    gone += count;
  };
  node.make_extras(bytes_->nodes).predicted.take_due(now, end, bytes_->requests);
  tree_->schedule_expiry(id);
  node.tidy_extras(bytes_->nodes);
  touched_.assign(1, id);
  tidy_touched();
  return gone;
}

PinResult TreeCore::pin(Slot slot, std::span<const std::uint64_t> labels) {
  const std::scoped_lock turn(writers_);
  static_cast<void>(holder_of({slot, Tier::device}));
  PinResult result;
  if (labels.empty()) return result;
  {
    const std::scoped_lock alone(tree_lock_);
    const std::uint32_t tick = next_tick();
    find_path(NodeTree::kRoot, 0, labels);
    for (const Segment& segment : path_) {
      Node& node = tree_->node(segment.node);
      result.newly_active +=
          node.make_extras(bytes_->nodes).pins.add(slot, segment.end, 1, bytes_->requests);
      node.last_use.set(tick);
    }
    ++pins_;
  }
  result.pin.block_ = tree_->block_at(path_.back().node, path_.back().end - 1);
  result.pin.depth_ = static_cast<std::uint32_t>(labels.size());
  enforce_limit(path_.back().node, kNoBound);
  return result;
}

std::uint32_t TreeCore::unpin(Slot slot, Pin pin) {
  const std::scoped_lock turn(writers_);
  static_cast<void>(find_holder({slot, Tier::device}));
  if (pin.empty()) return 0;
  if (!tree_->runs().live(pin.block_)) {
    throw InvalidArgument("pin: expected one that is not yet unpinned");
  }
  const BlockPlace place = tree_->place_of(pin.block_);
  const Node& last = tree_->node(place.node);
  if (last.start + place.at + 1 != pin.depth_ || !last.pins().contains(slot, place.at + 1)) {
    throw InvalidArgument("pin: expected one of slot " + std::to_string(slot) +
                          " that is not yet unpinned");
  }
  std::uint32_t stopped = 0;
  {
    const std::scoped_lock alone(tree_lock_);
    std::uint32_t end = place.at + 1;
    for (NodeId id = place.node; id != NodeTree::kRoot;) {
      Node& node = tree_->node(id);
      NodePins& pins = node.make_extras(bytes_->nodes).pins;
      stopped += pins.remove(slot, end, bytes_->requests).value_or(0);
      node.tidy_extras(bytes_->nodes);
      id = node.parent;
      end = tree_->node(id).length;
    }
    --pins_;
    touched_.assign(1, place.node);
    tidy_touched();
  }
  forget_freed_names();
  all_in_use_ = false;
  return stopped;
}

}  // namespace kvroute::detail
