// The names in a snapshot (core_restore.cc).

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "index/snapshot_format.h"
#include "index/tree_core.h"

namespace kvroute::detail {
namespace {

constexpr std::uint32_t kAnyCount = std::numeric_limits<std::uint32_t>::max() - 1;
constexpr std::uint32_t kHighestLane = kMaxTargets * kTiers - 1;

LaneId lane_of(std::uint32_t key) {
  return {key / static_cast<std::uint32_t>(kTiers), static_cast<Tier>(key % kTiers)};
}

/// For each block of the node, how many lanes hold it exactly.
std::vector<std::uint32_t> exact_holders(const Node& node) {
  std::vector<std::uint32_t> counts(node.length + 1, 0);  // changes at first, which may wrap
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    const Coverage& coverage = node.coverage_in(static_cast<Tier>(tier));
    coverage.for_each_holder([&](Slot slot) {
      coverage.for_each_range(slot, node.length, [&](std::uint32_t begin, std::uint32_t end) {
        ++counts[begin];
        --counts[end];
      });
    });
  }
  for (const PredictedRange& range : node.predicted().ranges()) {
    --counts[range.begin];
    ++counts[range.end];
  }
  for (std::uint32_t at = 1; at < node.length; ++at) counts[at] += counts[at - 1];
  return counts;
}

}  // namespace

void TreeCore::load_own_names(SnapshotReader& in, RunId run) {
  RunStore& runs = tree_->runs();
  std::uint32_t least = 0;  // out of order lanes and rows would take quadratic time to fill
  for (std::uint32_t rows = in.number(kHighestLane + 1, "rows"); rows > 0; --rows) {
    const std::uint32_t key = in.number(kHighestLane, "a lane");
    if (key < std::exchange(least, key + 1)) {
      refuse_snapshot("rows of names in order", "one out of order");
    }
    const LaneId lane = lane_of(key);
    std::uint32_t next = 0;
    for (std::uint32_t left = in.number(runs.length(run), "names"); left > 0; --left) {
      const std::uint32_t offset = in.number(runs.length(run) - 1, "a block");
      const std::uint64_t name = in.hash();
      const BlockId block = runs.block({run, offset});
      if (offset < std::exchange(next, offset + 1) || name == 0 || !holds_exactly(lane, block)) {
        refuse_snapshot("one own name for a block that is held", "another");
      }
      set_own_name(lane, holder_of(lane), block, name, offset + 1);
      check_size(in);
    }
  }
}

void TreeCore::load_odd_names(SnapshotReader& in, const std::vector<NodeId>& nodes) {
  const LaneId lane = lane_of(in.number(kHighestLane, "a lane"));
  Holder& holder = holder_of(lane);
  for (std::uint32_t left = in.number(kAnyCount, "aliases"); left > 0; --left) {
    const std::uint64_t name = in.hash();
    const NodeId id = nodes[in.number(nodes.size() - 1, "a node")];
    const std::uint32_t at = in.number(kAnyCount, "a block");
    if (name == 0 || id == NodeTree::kRoot || at >= tree_->node(id).length ||
        !tree_->node(id).holds_exactly(lane.slot, lane.tier, at) ||
        find_name(lane, holder, name) != kNoId) {
      refuse_snapshot("aliases of blocks that are held", "another");
    }
    odd_names(holder).add_alias(tree_->block_at(id, at), name);
    check_size(in);
  }
  for (std::uint32_t left = in.number(kAnyCount, "copies"); left > 0; --left) {
    const std::uint64_t name = in.hash();
    const std::uint32_t extra = in.number(kAnyCount, "copies");
    if (extra == 0 || find_name(lane, holder, name) == kNoId) {
      refuse_snapshot("copies of blocks that are held", "another");
    }
    odd_names(holder).set_copies(name, extra);
    check_size(in);
  }
}

/// Each block that a lane holds exactly has to have a name, which leads to it and nowhere else. Of
/// shared names, each of which the table has once, that is so wherever there is one.
void TreeCore::check_own_names(RunId run) const {
  const RunStore& runs = tree_->runs();
  std::vector<std::uint32_t> own(runs.length(run), 0);  // lanes with a name of their own, by block
  for (const OwnNames& row : runs.own_names(run).rows()) {
    const LaneId lane = lane_of(row.lane);
    const Holder& holder = *find_holder(lane);
    for (std::uint32_t i = 0; i < row.length; ++i) {
      if (row.names[i] == 0) continue;
      const std::uint32_t offset = row.begin + i;
      ++own[offset];
      if (find_name(lane, holder, row.names[i]) != runs.block({run, offset})) {
        refuse_snapshot("a name of its own for each block that is held", "one of two blocks");
      }
    }
  }
  const std::uint64_t* const shared = runs.shared_names(run);
  runs.for_each_window(run, [&](const Run::Window& window) {
    const Node& node = tree_->node(window.node);
    const std::uint64_t* const names = shared + window.begin;
    if (std::find(names, names + node.length, std::uint64_t{0}) == names + node.length) return;
    const std::vector<std::uint32_t> exact = exact_holders(node);
    for (std::uint32_t at = 0; at < node.length; ++at) {
      if (names[at] == 0 && own[window.begin + at] != exact[at]) {
        refuse_snapshot("a name of its own for each block that is held", "none");
      }
    }
  });
}

}  // namespace kvroute::detail
