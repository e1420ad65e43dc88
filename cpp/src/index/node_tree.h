#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "index/coverage.h"
#include "index/edge_table.h"
#include "index/expiry_queue.h"
#include "index/node_pins.h"
#include "index/predicted_ranges.h"
#include "index/run_store.h"
#include "index/slab.h"
#include "kvroute/index/index_stats.h"

namespace kvroute::detail {

/// A time stamp that readers may set while they share the tree.
class Stamp {
 public:
  Stamp() = default;
  Stamp(const Stamp& other) noexcept : value_(other.get()) {}
  Stamp& operator=(const Stamp& other) noexcept {
    set(other.get());
    return *this;
  }
  ~Stamp() = default;
  void set(std::uint64_t value) const noexcept { value_.store(value, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t get() const noexcept {
    return value_.load(std::memory_order_relaxed);
  }

 private:
  mutable std::atomic<std::uint64_t> value_{0};
};

/// A window on a run, with what is known of its blocks.
struct Node {
  const std::uint64_t* labels = nullptr;  // in the run's storage
  std::uint32_t length = 0;
  std::uint32_t start = 0;  // blocks before this node
  NodeId parent = 0;
  std::uint32_t children = 0;
  RunId run = 0;
  std::uint32_t begin = 0;          // of the window in its run
  std::uint32_t expiry_ticket = 0;  // 0: not in the expiry queue
  std::uint64_t namespace_seed = 0;
  Stamp last_use;
  Coverage coverage;
  NodePins pins;
  PredictedRanges predicted;
};

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
    return edges_.find(parent, label);
  }
  [[nodiscard]] const EdgeTable& edges() const noexcept { return edges_; }
  [[nodiscard]] RunStore& runs() noexcept { return runs_; }
  [[nodiscard]] const RunStore& runs() const noexcept { return runs_; }

  [[nodiscard]] BlockPlace place_of(BlockId block) const;
  [[nodiscard]] BlockId block_at(NodeId id, std::uint32_t at) const {
    return runs_.block({nodes_[id].run, nodes_[id].begin + at});
  }
  [[nodiscard]] std::uint64_t& shared_name(NodeId id, std::uint32_t at) {
    return runs_.shared_name({nodes_[id].run, nodes_[id].begin + at});
  }

  /// Finds the blocks `labels` below the first `consumed` blocks of `from`, makes those that are
  /// not there, and appends the way to `path`. A leaf of which only `slot` holds blocks grows; any
  /// other new block begins a node.
  void ensure_path(NodeId from, std::uint32_t consumed, std::span<const std::uint64_t> labels,
                   Slot slot, std::vector<Segment>& path);

  /// Frees what nobody holds and nobody has pinned at the end of the leaf `id` and, where the
  /// whole leaf goes, of those above it that become leaves. Does nothing with an inner node.
  void prune(NodeId id);

  /// Sees to it that `expire` looks at the node in time.
  void schedule_expiry(NodeId id);
  [[nodiscard]] ExpiryQueue& expiry() noexcept { return expiry_; }
  [[nodiscard]] const ExpiryQueue& expiry() const noexcept { return expiry_; }

 private:
  [[nodiscard]] NodeId split(NodeId id, std::uint32_t at);
  [[nodiscard]] NodeId add_leaf(NodeId parent, std::span<const std::uint64_t> labels);
  [[nodiscard]] bool can_grow(NodeId id, Slot slot) const;
  void grow(NodeId id, std::span<const std::uint64_t> labels);
  void shorten(NodeId id, std::uint32_t length);
  void free_leaf(NodeId id);
  void refresh_labels(RunId run);

  IndexBytes& bytes_;
  Slab<Node> nodes_;
  RunStore runs_;
  EdgeTable edges_;
  ExpiryQueue expiry_;
};

}  // namespace kvroute::detail
