#include <algorithm>
#include <mutex>
#include <shared_mutex>

#include "index/tree_core.h"

namespace kvroute::detail {

std::uint32_t TreeCore::predict(Slot slot, std::span<const std::uint64_t> labels, Nanoseconds now) {
  const std::scoped_lock turn(writers_);
  Holder& holder = holder_of({slot, Tier::device});
  std::uint32_t added = 0;
  {
    const std::scoped_lock alone(tree_lock_);
    const std::uint32_t tick = next_tick();
    find_path(NodeTree::kRoot, 0, labels);
    const Nanoseconds deadline = tree_->capacity().capacity(slot)
                                     ? tree_->capacity().next_instant()
                                     : std::min(after(now, predicted_ttl_), kFirstInstant - 1);
    for (const Segment& segment : path_) {
      added += predict_segment(slot, holder, segment, deadline);
      tree_->node(segment.node).last_use.set(tick);
    }
  }
  counters_.predicted += added;
  end_outlived(slot, holder);
  enforce_limit(path_.empty() ? NodeTree::kRoot : path_.back().node, kNoBound);
  return added;
}

/// What of the segment is not held exactly becomes predicted, or is prolonged.
/// \return how many blocks became held.
std::uint32_t TreeCore::predict_segment(Slot slot, Holder& holder, const Segment& segment,
                                        Nanoseconds deadline) {
  Node& node = tree_->node(segment.node);
  std::uint32_t added = 0;
  std::uint32_t assumed = 0;  // where the last of them ends
  const auto assume = [&](std::uint32_t begin, std::uint32_t end) {
    PredictedRanges& predicted = node.make_extras(bytes_->nodes).predicted;
    assumed = end;
    if (predicted.prolong(slot, begin, end, deadline)) return;
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
  if (deadline < kFirstInstant) {
    tree_->schedule_expiry(segment.node);
  } else if (assumed > 0) {
    tree_->queue_prediction(segment.node, slot, deadline, assumed);
  }
  return added;
}

std::size_t TreeCore::expire(Nanoseconds now) {
  constexpr std::size_t kNodesAtOnce = 1024;
  {
    const std::shared_lock together(tree_lock_, std::try_to_lock);  // `restore` replaces the queue
    if (!together.owns_lock() || !tree_->expiry().is_due(now)) return 0;
  }
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
  update_shared_names();
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

}  // namespace kvroute::detail
