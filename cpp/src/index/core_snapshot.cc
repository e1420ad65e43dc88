// Writing a tree as bytes: a SnapshotFormat of these fields, as SnapshotWriter writes them:
//   slots; runs, each: the node that it hangs below (0: the root, else by order of writing, from
//   1),
//     namespace seed (hash), windows and the length of each, its labels, its shared names (hashes);
//   for each node, in the order of the runs' windows: insertions since its last use; for each tier:
//     holders, first those that hold all, both by slot: slot, ranges (0: it holds all) and for each
//     gap before and length; predicted ranges, by slot and begin: slot, begin, length, 0 and time
//     left (difference) or 1 and instant;
//   for each run: rows of own names, by lane: lane, names, for each, by offset: offset and name;
//   lanes with odd names, each: lane; aliases: name, node, position; copies: name, extra ones;
//   waiting chains, each: slot, tier, blocks, parent, seed (hashes), names, labels, what is gone.

#include <algorithm>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "index/snapshot_format.h"
#include "index/tree_core.h"

namespace kvroute::detail {
namespace {

using Ordinals = std::unordered_map<NodeId, std::uint32_t>;

void write_coverage(const Coverage& coverage, std::uint32_t length, SnapshotWriter& out) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges;
  std::uint32_t holders = 0;
  coverage.for_each_holder([&](Slot /*slot*/) { ++holders; });
  out.number(holders);
  coverage.for_each_holder([&](Slot slot) {
    out.number(slot);
    ranges.clear();
    std::uint32_t last = 0;
    coverage.for_each_range(slot, length, [&](std::uint32_t begin, std::uint32_t end) {
      ranges.emplace_back(begin - last, end - begin);
      last = end;
    });
    const bool all = ranges.size() == 1 && ranges[0].second == length;
    out.number(all ? 0 : ranges.size());
    for (const auto& [gap, count] : ranges) {
      if (all) break;
      out.number(gap);
      out.number(count);
    }
  });
}

void write_predicted(const PredictedRanges& predicted, Nanoseconds now, SnapshotWriter& out) {
  out.number(predicted.ranges().size());
  for (const PredictedRange& range : predicted.ranges()) {
    out.number(range.slot);
    out.number(range.begin);
    out.number(range.end - range.begin);
    out.number(range.expires() ? 0 : 1);
    out.difference(range.deadline - (range.expires() ? now : kFirstInstant));
  }
}

void write_own_names(const OwnNameRows& own, SnapshotWriter& out) {
  out.number(own.rows().size());
  for (const OwnNames& row : own.rows()) {
    out.number(row.lane);
    out.number(row.count);
    for (std::uint32_t i = 0; i < row.length; ++i) {
      if (row.names[i] == 0) continue;
      out.number(row.begin + i);
      out.hash(row.names[i]);
    }
  }
}

void write_chain(const WaitingChain& chain, SnapshotWriter& out) {
  out.number(chain.slot);
  out.number(index_of(chain.tier));
  out.number(chain.names.size());
  out.hash(chain.parent);
  out.hash(chain.namespace_seed);
  out.hashes(chain.names);
  out.hashes(chain.labels);
  for (const std::uint8_t gone : chain.gone) out.number(gone);
}

}  // namespace

/// The nodes that begin runs, each after those above it.
std::vector<NodeId> TreeCore::first_nodes() const {
  std::vector<NodeId> nodes;
  for (NodeId id = 1; id < tree_->id_end(); ++id) {
    if (tree_->live(id) && tree_->node(id).begin == 0) nodes.push_back(id);
  }
  std::sort(nodes.begin(), nodes.end(), [this](NodeId a, NodeId b) {
    return std::pair(tree_->node(a).start, a) < std::pair(tree_->node(b).start, b);
  });
  return nodes;
}

std::string TreeCore::snapshot(Nanoseconds now) const {
  const std::shared_lock turn(writers_);
  SnapshotWriter out(kTreeSnapshot);
  out.number(slot_count_);
  const std::vector<NodeId> firsts = first_nodes();
  Ordinals ordinals{{NodeTree::kRoot, 0}};
  std::vector<NodeId> nodes;
  const RunStore& runs = tree_->runs();
  out.number(firsts.size());
  for (const NodeId first : firsts) {
    const Node& node = tree_->node(first);
    out.number(ordinals.at(node.parent));
    out.hash(runs.namespace_seed(node.run));
    const std::size_t before = nodes.size();
    runs.for_each_window(node.run,
                         [&](const Run::Window& window) { nodes.push_back(window.node); });
    out.number(nodes.size() - before);
    for (std::size_t i = before; i < nodes.size(); ++i) {
      ordinals.emplace(nodes[i], static_cast<std::uint32_t>(i + 1));
      out.number(tree_->node(nodes[i]).length);
    }
    const std::uint32_t length = runs.length(node.run);
    out.hashes({runs.labels(node.run), length});
    out.hashes({runs.shared_names(node.run), length});
  }
  const std::uint32_t tick = tick_.load(std::memory_order_relaxed);
  for (const NodeId id : nodes) {
    const Node& node = tree_->node(id);
    out.number(tick - node.last_use.get());
    for (std::size_t tier = 0; tier < kTiers; ++tier) {
      write_coverage(node.coverage_in(static_cast<Tier>(tier)), node.length, out);
    }
    write_predicted(node.predicted(), now, out);
  }
  for (const NodeId first : firsts) write_own_names(runs.own_names(tree_->node(first).run), out);
  write_odd_names(ordinals, out);
  std::size_t chains = 0;
  waiting_->for_each([&](const WaitingChain& /*chain*/) { ++chains; });
  out.number(chains);
  waiting_->for_each([&](const WaitingChain& chain) { write_chain(chain, out); });
  return out.seal();
}

void TreeCore::write_odd_names(const std::unordered_map<NodeId, std::uint32_t>& ordinals,
                               SnapshotWriter& out) const {
  std::vector<LaneId> lanes;
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    for (Slot slot = 0; slot < holders_[tier].size(); ++slot) {
      const Holder* holder = holders_[tier][slot].get();
      if (holder != nullptr && holder->odd != nullptr) {
        lanes.push_back({slot, static_cast<Tier>(tier)});
      }
    }
  }
  out.number(lanes.size());
  for (const LaneId lane : lanes) {
    const OddNames& odd = *find_holder(lane)->odd;
    out.number(lane.key());
    out.number(odd.aliases());
    odd.for_each_alias([&](std::uint64_t name, BlockId block) {
      const BlockPlace place = tree_->place_of(block);
      out.hash(name);
      out.number(ordinals.at(place.node));
      out.number(place.at);
    });
    out.number(odd.copies());
    odd.for_each_copy([&](std::uint64_t name, std::uint32_t extra) {
      out.hash(name);
      out.number(extra);
    });
  }
}

}  // namespace kvroute::detail
