#pragma once

#include <cstdint>
#include <vector>

namespace kvroute {

/// The answer of one walk of a prefix tree, in blocks, for every slot at once.
///
/// Both arrays are indexed by slot and have one entry for every slot up to the highest that the
/// tree has seen; a slot beyond their end has depth 0. An `Overlaps` that is used again keeps its
/// buffers, so that matching allocates nothing in the steady state.
struct Overlaps {
  /// Reachable depth: how many leading blocks of the request the slot holds without a gap.
  std::vector<std::uint32_t> held;
  /// Leading blocks of the request that requests now running on the slot have pinned.
  std::vector<std::uint32_t> active;

  /// Forgets the depths, keeps the memory.
  void clear() noexcept {
    held.clear();
    active.clear();
  }
};

}  // namespace kvroute
