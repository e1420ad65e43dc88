#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvroute/index/prefix_tree.h"

namespace kvroute::testing {

using Hashes = std::vector<std::uint64_t>;

/// `count` hashes that belong to no other `family`; those of one family share their beginning.
inline Hashes hashes(std::size_t count, std::uint64_t family = 1) {
  Hashes out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = family * 1'000'000'007 + i + 1;
  return out;
}

inline Hashes part(const Hashes& from, std::size_t begin, std::size_t end) {
  return {from.begin() + static_cast<std::ptrdiff_t>(begin),
          from.begin() + static_cast<std::ptrdiff_t>(end)};
}

inline Hashes joined(Hashes first, const Hashes& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

/// Reachable depth of one slot; 0 for a slot that the tree has not seen.
inline std::uint32_t held(const PrefixTree& tree, Slot slot, const Hashes& labels) {
  Overlaps overlaps;
  tree.match(labels, overlaps);
  return slot < overlaps.held.size() ? overlaps.held[slot] : 0;
}

inline std::uint32_t active(const PrefixTree& tree, Slot slot, const Hashes& labels) {
  Overlaps overlaps;
  tree.match(labels, overlaps);
  return slot < overlaps.active.size() ? overlaps.active[slot] : 0;
}

}  // namespace kvroute::testing
