#include <mutex>

#include "index/tree_core.h"
#include "kvroute/base/error.h"

namespace kvroute::detail {

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
      const std::uint32_t below = &segment == &path_.back() ? 0 : 1;
      result.newly_active +=
          node.make_extras(bytes_->nodes).pins.add({slot, segment.end, 1, below}, bytes_->requests);
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
  if (last.start + place.at + 1 != pin.depth_ || !last.pins().any_ends_at(slot, place.at + 1)) {
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
      const std::uint32_t here = pins.remove(slot, end, id != place.node, bytes_->requests);
      if (here > 0) tree_->requeue_predictions(id, slot);
      stopped += here;
      node.tidy_extras(bytes_->nodes);
      id = node.parent;
      end = tree_->node(id).length;
    }
    --pins_;
    touched_.assign(1, place.node);
    tidy_touched();
  }
  update_shared_names();
  all_in_use_ = false;
  enforce_limit(NodeTree::kRoot, kNoBound);  // predictions may have been queued again
  return stopped;
}

}  // namespace kvroute::detail
