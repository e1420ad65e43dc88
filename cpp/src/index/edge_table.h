#pragma once

#include <tsl/robin_set.h>

#include <cstddef>
#include <cstdint>
#include <limits>

#include "index/accounting.h"
#include "index/run_store.h"

namespace kvroute::detail {

inline constexpr NodeId kNoNode = std::numeric_limits<NodeId>::max();

/// From (parent, first label) to the child that begins with this label: one table for the whole
/// tree instead of a map in each node.
class EdgeTable {
 public:
  explicit EdgeTable(std::size_t* bytes)
      : edges_(0, Hash{}, Equal{}, CountingAllocator<Edge>(bytes)) {}

  /// kNoNode if there is no such child.
  [[nodiscard]] NodeId find(NodeId parent, std::uint64_t label) const {
    const auto found = edges_.find(Edge{label, parent, 0});
    return found == edges_.end() ? kNoNode : found->child;
  }
  /// Adds an edge, or leads an existing one to another child.
  void assign(NodeId parent, std::uint64_t label, NodeId child) {
    const auto [found, added] = edges_.insert(Edge{label, parent, child});
    if (!added) found->child = child;
  }
  void erase(NodeId parent, std::uint64_t label) {
    edges_.erase(Edge{label, parent, 0});
    if (edges_.size() < edges_.bucket_count() / 8 && edges_.bucket_count() > 64) edges_.rehash(0);
  }
  [[nodiscard]] std::size_t size() const noexcept { return edges_.size(); }

 private:
  __extension__ using Wide = unsigned __int128;
  struct Edge {
    std::uint64_t label;
    NodeId parent;
    mutable NodeId child;  // not part of the key
  };
  struct Hash {
    std::size_t operator()(const Edge& edge) const noexcept {
      const std::uint64_t odd = (std::uint64_t{edge.parent} << 1 | 1) * 0xbf58476d1ce4e5b9ULL;
      const Wide product = static_cast<Wide>(edge.label ^ 0x9e3779b97f4a7c15ULL) * odd;
      return static_cast<std::size_t>(product) ^ static_cast<std::size_t>(product >> 64);
    }
  };
  struct Equal {
    bool operator()(const Edge& a, const Edge& b) const noexcept {
      return a.label == b.label && a.parent == b.parent;
    }
  };
  using Edges = tsl::robin_set<Edge, Hash, Equal, CountingAllocator<Edge>>;

  Edges edges_;
};

}  // namespace kvroute::detail
