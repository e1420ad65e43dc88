#include <string>

#include "index/tree_core.h"

namespace kvroute::detail {

std::optional<std::string> TreeCore::audit_lane(LaneId lane) const {
  const Holder& holder = *find_holder(lane);
  const RunStore& runs = tree_->runs();
  std::size_t held = 0;
  std::size_t predicted = 0;
  std::size_t own = 0;
  for (NodeId id = 1; id < tree_->id_end(); ++id) {
    if (!tree_->live(id)) continue;
    const Node& node = tree_->node(id);
    held += node.coverage_in(lane.tier).held(lane.slot, node.length);
    for (const PredictedRange& range : node.predicted().ranges()) {
      const bool mine = lane.tier == Tier::device && range.slot == lane.slot;
      predicted += mine ? range.end - range.begin : 0;
    }
    for (std::uint32_t at = 0; at < node.length; ++at) {
      const RunStore::Position position = tree_->position(id, at);
      const std::uint64_t name = runs.own_names(node.run).at(lane, position.offset);
      own += name != 0 ? 1 : 0;
      if (!node.holds_exactly(lane.slot, lane.tier, at)) {
        if (name != 0) return "an own name of a block that it does not hold";
      } else if (first_name(lane, position) == 0) {
        return "a block without a name";
      } else if (find_name(lane, holder, first_name(lane, position)) != runs.block(position)) {
        return "a first name that leads elsewhere";
      }
    }
  }
  if (held != holder.held) return "its blocks are miscounted";
  if (predicted != holder.predicted) return "its predicted blocks are miscounted";
  if (own != holder.own.size()) return "its own names are miscounted";
  if (!holder.own.audit()) return "its table is out of order";
  return audit_odd_names(lane, holder);
}

std::optional<std::string> TreeCore::audit_odd_names(LaneId lane, const Holder& holder) const {
  if (holder.odd == nullptr) return std::nullopt;
  if (holder.odd->empty()) return "odd names without content";
  std::optional<std::string> wrong;
  holder.odd->for_each_alias([&](std::uint64_t name, BlockId block) {
    if (!tree_->runs().live(block) || !holds_exactly(lane, block)) {
      wrong = "an alias of a block that it does not hold";
    } else if (find_name(lane, holder, name) != block) {
      wrong = "an alias that leads elsewhere";
    }
  });
  holder.odd->for_each_copy([&](std::uint64_t name, std::uint32_t copies) {
    if (copies == 0) wrong = "a copy that is none";
    if (find_name(lane, holder, name) == kNoId) wrong = "a copy of a block that it does not hold";
  });
  return wrong;
}

std::optional<std::string> TreeCore::audit_shared_names() const {
  const RunStore& runs = tree_->runs();
  std::size_t names = 0;
  for (NodeId id = 1; id < tree_->id_end(); ++id) {
    if (!tree_->live(id)) continue;
    const Node& node = tree_->node(id);
    for (std::uint32_t at = 0; at < node.length; ++at) {
      const RunStore::Position position = tree_->position(id, at);
      const std::uint64_t name = runs.shared_name(position);
      if (name == 0) continue;
      ++names;
      if (find_shared(name) != runs.block(position)) return "a shared name that leads elsewhere";
    }
  }
  if (names != shared_.size()) return "shared names are miscounted";
  if (!shared_.audit()) return "the table of shared names is out of order";
  return std::nullopt;
}

}  // namespace kvroute::detail
