#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "index/capacity_queue.h"
#include "index/expiry_queue.h"
#include "index/id_table.h"
#include "index/node.h"
#include "index/run_store.h"
#include "index/slab.h"
#include "kvroute/index/index_stats.h"

namespace kvroute::detail {

/// A block, by its node and its position there.
struct BlockPlace {
  NodeId node;
  std::uint32_t at;
};

/// Blocks [begin, end) of a node; a path is a list of them.
struct Segment {
  NodeId node;
  std::uint32_t begin;
  std::uint32_t end;
};

/// The shape of the tree: nodes, runs and edges. Knows how to find, grow, split and prune; what
/// the coverage of a node says is its callers' business. Not synchronised.
/// A node without children ends with a block that someone holds or has pinned; `prune` sees to it.
/// A node with one child that much the same slots hold is one with it, unless that were a lot of
/// work; `merge` sees to that.
class NodeTree {
 public:
  static constexpr NodeId kRoot = 0;

  explicit NodeTree(IndexBytes& bytes);

  [[nodiscard]] Node& node(NodeId id) noexcept { return nodes_[id]; }
  [[nodiscard]] const Node& node(NodeId id) const noexcept { return nodes_[id]; }
  [[nodiscard]] bool live(NodeId id) const noexcept { return nodes_.live(id); }
  [[nodiscard]] NodeId id_end() const noexcept { return nodes_.id_end(); }
  [[nodiscard]] std::size_t size() const noexcept { return nodes_.size() - 1; }
  [[nodiscard]] NodeId child(NodeId parent, std::uint64_t label) const {
    return edges_.find(edge_key(parent, label), [&](NodeId id) {
      const Node& node = nodes_[id];
      return node.labels[0] == label && node.parent == parent;
    });
  }
  [[nodiscard]] const IdTable& edges() const noexcept { return edges_; }
  [[nodiscard]] RunStore& runs() noexcept { return runs_; }
  [[nodiscard]] const RunStore& runs() const noexcept { return runs_; }

  [[nodiscard]] BlockPlace place_of(BlockId block) const;
  [[nodiscard]] BlockId block_at(NodeId id, std::uint32_t at) const {
    return runs_.block({nodes_[id].run, nodes_[id].begin + at});
  }
  [[nodiscard]] RunStore::Position position(NodeId id, std::uint32_t at) const {
    return {nodes_[id].run, nodes_[id].begin + at};
  }

  /// Finds the blocks `labels` below the first `consumed` blocks of `from`, makes those that are
  /// not there, and appends the way to `path`. A leaf that few slots hold grows; any other new
  /// block begins a node.
  void ensure_path(NodeId from, std::uint32_t consumed, std::span<const std::uint64_t> labels,
                   std::vector<Segment>& path);

  /// Makes a run of these blocks below `parent`, which has no such child yet, and of the run a node
  /// for each of `lengths`, which sum up to its length. Appends the nodes to `nodes`. They are to
  /// be held by someone before anything is pruned.
  void add_run(NodeId parent, std::span<const std::uint64_t> labels,
               std::span<const std::uint32_t> lengths, std::uint64_t namespace_seed,
               std::vector<NodeId>& nodes);

  /// Frees what nobody holds and nobody has pinned at the end of the leaf `id` and, where the
  /// whole leaf goes, of those above it that become leaves. Does nothing with an inner node.
  /// \return the lowest node on the way that is left, perhaps to be merged.
  NodeId prune(NodeId id);

  /// Makes one node of `id` and its only child, where they can be one; and the same of `id` and the
  /// node above it. The child's id stays, the other goes. Blocks may get other ids.
  void merge(NodeId id);

  /// How many ids of blocks are kept where nobody hears of other ones; while there are any, no
  /// block gets another id.
  [[nodiscard]] std::size_t& fixed_blocks() noexcept { return fixed_blocks_; }

  /// Sees to it that `expire` looks at the node in time.
  void schedule_expiry(NodeId id);
  [[nodiscard]] ExpiryQueue& expiry() noexcept { return expiry_; }
  [[nodiscard]] const ExpiryQueue& expiry() const noexcept { return expiry_; }

  /// Enters the predictions without a deadline that begin in the node's first `length` blocks into
  /// their slots' queues.
  void queue_predictions(NodeId id, std::uint32_t length);
  /// The same of one slot, where they are not there because requests were using the blocks.
  void requeue_predictions(NodeId id, Slot slot);
  /// Enters one; `end` counts from the node's beginning.
  void queue_prediction(NodeId id, Slot slot, Nanoseconds instant, std::uint32_t end);
  [[nodiscard]] CapacityQueue& capacity() noexcept { return capacity_; }
  [[nodiscard]] const CapacityQueue& capacity() const noexcept { return capacity_; }

 private:
  [[nodiscard]] static std::uint64_t edge_key(NodeId parent, std::uint64_t label) noexcept {
    return label ^ (std::uint64_t{parent} * 0x9e3779b97f4a7c15ULL);
  }
  [[nodiscard]] NodeId split(NodeId id, std::uint32_t at);
  [[nodiscard]] NodeId add_leaf(NodeId parent, std::span<const std::uint64_t> labels);
  [[nodiscard]] bool can_grow(NodeId id) const;
  void grow(NodeId id, std::span<const std::uint64_t> labels);
  void shorten(NodeId id, std::uint32_t length);
  void free_leaf(NodeId id);
  void refresh_labels(RunId run);
  [[nodiscard]] NodeId only_follower(NodeId id) const;
  [[nodiscard]] bool may_move(const Node& head, const Node& tail) const;
  void move_run(RunId from, RunId to);
  void merge_into(NodeId head, NodeId tail);

  IndexBytes& bytes_;
  Slab<Node> nodes_;
  RunStore runs_;
  IdTable edges_;
  ExpiryQueue expiry_;
  CapacityQueue capacity_;
  std::size_t fixed_blocks_ = 0;
};

}  // namespace kvroute::detail
