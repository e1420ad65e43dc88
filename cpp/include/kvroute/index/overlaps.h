#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kvroute/base/tier.h"

namespace kvroute {

/// The answer of one walk of a prefix tree, in blocks, for every slot at once.
///
/// The arrays are indexed by slot and have one entry for every slot up to the highest that the
/// tree has seen; a slot beyond their end has depth 0. An `Overlaps` that is used again keeps its
/// buffers, so that matching allocates nothing in the steady state.
struct Overlaps {
  /// Reachable depth: how many leading blocks of the request the slot holds on its device without
  /// a gap.
  std::vector<std::uint32_t> held;
  /// Leading blocks of the request that requests now running on the slot have pinned. Empty while
  /// no request has pinned anything in the tree.
  std::vector<std::uint32_t> active;
  /// lower[i]: reachable depth where a block may lie in any tier from the device to tier i + 1, so
  /// lower[0] counts device and host, lower[2] all four. Never less than `held`, and not
  /// decreasing with i. Empty for tiers that the match was not asked for; all empty while the tree
  /// holds nothing below the device: then the depth with further tiers is `held`.
  std::array<std::vector<std::uint32_t>, kTiers - 1> lower;

  /// Reachable depths with all tiers up to `tier`, by slot.
  [[nodiscard]] const std::vector<std::uint32_t>& depths(Tier tier) const noexcept {
    if (tier == Tier::device) return held;
    const auto& further = lower[index_of(tier) - 1];
    return further.empty() ? held : further;
  }

  /// Reachable depth of a slot with all tiers up to `tier`.
  [[nodiscard]] std::uint32_t depth(std::size_t slot, Tier tier) const noexcept {
    const auto& depths = tier == Tier::device ? held : lower[index_of(tier) - 1];
    if (slot < depths.size()) return depths[slot];
    return slot < held.size() ? held[slot] : 0;
  }

  /// Forgets the depths, keeps the memory.
  void clear() noexcept {
    held.clear();
    active.clear();
    for (auto& depths : lower) depths.clear();
  }
};

}  // namespace kvroute
