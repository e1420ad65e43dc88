#include <mutex>
#include <set>
#include <string>
#include <tuple>

#include "index/tree_core.h"
#include "kvroute/base/error.h"

namespace kvroute::detail {

void TreeCore::set_capacity(Slot slot, std::optional<std::uint32_t> blocks) {
  if (blocks && *blocks == 0) throw InvalidArgument("blocks: expected at least 1, got 0");
  const std::scoped_lock turn(writers_);
  static_cast<void>(find_holder({slot, Tier::device}));  // checks the slot
  tree_->capacity().set_capacity(slot, blocks);
}

/// Predictions beyond the slot's capacity go, but for those that its running requests use. In
/// steps of one node: a match never waits for more than one.
void TreeCore::end_outlived(Slot slot, Holder& holder) {
  const std::optional<std::uint32_t> capacity = tree_->capacity().capacity(slot);
  if (!capacity || holder.predicted <= *capacity) return;
  while (holder.predicted > *capacity) {
    const auto record = tree_->capacity().pop(slot);
    if (!record) break;
    if (!tree_->live(record->node)) continue;
    const auto excess = static_cast<std::uint32_t>(holder.predicted - *capacity);
    end_outlived_in(slot, holder, *record, excess);
  }
  update_shared_names();
  all_in_use_ = false;
}

/// Serves a record: of the blocks of its instant in its node, up to `excess` go.
void TreeCore::end_outlived_in(Slot slot, Holder& holder, const CapacityQueue::Record& record,
                               std::uint32_t excess) {
  const NodeId id = record.node;
  Node& node = tree_->node(id);
  const std::uint32_t end = node.predicted().end_of(slot, record.instant);
  if (end == 0) return;
  // A split or a confirmation has left the node less than the record says: others are deeper now.
  if (node.start + end < record.end) {
    tree_->capacity().push(slot, {record.instant, node.start + end, id});
    return;
  }
  const std::scoped_lock alone(tree_lock_);
  PredictedRanges& predicted = node.make_extras(bytes_->nodes).predicted;
  const std::uint32_t gone = predicted.take_last(
      slot, record.instant, node.pins().active(slot), excess,
      [&](std::uint32_t from, std::uint32_t to) {
        static_cast<void>(let_go({slot, Tier::device}, holder, id, from, to));
      },
      bytes_->requests);
  holder.predicted -= gone;
  counters_.outlived += gone;
  if (predicted.any(slot, record.instant)) {
    if (gone == excess) {
      tree_->capacity().push(slot, record);
    } else {
      tree_->capacity().pass_over(slot, record.instant);
    }
  }
  if (gone == 0) return;
  node.tidy_extras(bytes_->nodes);
  touched_.assign(1, id);
  tidy_touched();
}

/// Every block that is predicted without a deadline is found in its turn, unless a running request
/// uses it: then its record may be gone.
std::optional<std::string> TreeCore::audit_capacities() const {
  std::set<std::tuple<Slot, Nanoseconds, NodeId>> queued;
  for (Slot slot = 0; slot < slot_count_; ++slot) {
    tree_->capacity().for_each(slot, [&](const CapacityQueue::Record& record) {
      queued.emplace(slot, record.instant, record.node);
    });
  }
  for (NodeId id = 1; id < tree_->id_end(); ++id) {
    if (!tree_->live(id)) continue;
    const Node& node = tree_->node(id);
    for (const PredictedRange& range : node.predicted().ranges()) {
      if (range.expires() || queued.contains({range.slot, range.deadline, id})) continue;
      const bool in_use = range.end <= node.pins().active(range.slot);
      if (in_use && tree_->capacity().may_have_passed_over(range.slot, range.deadline)) continue;
      return "node " + std::to_string(id) + ": predictions that no capacity bounds";
    }
  }
  return std::nullopt;
}

}  // namespace kvroute::detail
