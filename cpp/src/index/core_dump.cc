// What every lane holds, as chains that could be stored again.

#include <algorithm>
#include <shared_mutex>
#include <tuple>
#include <vector>

#include "index/tree_core.h"

namespace kvroute::detail {

void TreeCore::for_each_held(const std::function<void(const HeldChain&)>& visit) const {
  const std::shared_lock turn(writers_);
  std::vector<NodeId> order;
  order.reserve(tree_->size());
  for (NodeId id = 1; id < tree_->id_end(); ++id) {
    if (tree_->live(id)) order.push_back(id);
  }
  std::sort(order.begin(), order.end(), [&](NodeId a, NodeId b) {
    return std::pair(tree_->node(a).start, a) < std::pair(tree_->node(b).start, b);
  });
  std::vector<Stretch> stretches;
  std::vector<std::uint64_t> names;
  for (const NodeId id : order) {
    find_stretches(id, stretches);
    for (const Stretch& stretch : stretches) {
      HeldChain chain;
      chain.slot = stretch.lane.slot;
      chain.tier = stretch.lane.tier;
      const Node& node = tree_->node(id);
      names.clear();
      for (std::uint32_t at = stretch.begin; at < stretch.end; ++at) {
        names.push_back(given_form(first_name(stretch.lane, tree_->position(id, at))));
      }
      chain.namespace_seed = tree_->runs().namespace_seed(node.run);
      chain.engine_hashes = names;
      chain.local_hashes = {node.labels + stretch.begin, node.labels + stretch.end};
      note_parent(chain.slot, id, stretch.begin, chain);
      visit(chain);
    }
  }
}

/// What any lane holds exactly of one node, by where it begins.
void TreeCore::find_stretches(NodeId id, std::vector<Stretch>& stretches) const {
  const Node& node = tree_->node(id);
  stretches.clear();
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    node.coverage_in(static_cast<Tier>(tier)).for_each_holder([&](Slot slot) {
      const LaneId lane{slot, static_cast<Tier>(tier)};
      for (std::uint32_t at = 0; at < node.length; ++at) {
        if (!node.holds_exactly(slot, lane.tier, at)) continue;
        const std::uint32_t begin = at;
        while (at < node.length && node.holds_exactly(slot, lane.tier, at)) ++at;
        stretches.push_back({lane, begin, at});
      }
    });
  }
  std::sort(stretches.begin(), stretches.end(), [](const Stretch& a, const Stretch& b) {
    return std::tuple(a.begin, a.lane.tier, a.lane.slot) <
           std::tuple(b.begin, b.lane.tier, b.lane.slot);
  });
}

/// The name of the block before `begin`, as the slot knows it in some tier, or as others do.
void TreeCore::note_parent(Slot slot, NodeId id, std::uint32_t begin, HeldChain& chain) const {
  if (begin == 0) id = tree_->node(id).parent;
  if (id == NodeTree::kRoot) return;
  const Node& node = tree_->node(id);
  const std::uint32_t at = (begin == 0 ? node.length : begin) - 1;
  const RunStore::Position position = tree_->position(id, at);
  chain.parent = given_form(tree_->runs().shared_name(position));
  chain.parent_held = false;
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    const LaneId lane{slot, static_cast<Tier>(tier)};
    if (!node.holds_exactly(slot, lane.tier, at)) continue;
    chain.parent = given_form(first_name(lane, position));
    chain.parent_held = true;
    return;
  }
}

}  // namespace kvroute::detail
