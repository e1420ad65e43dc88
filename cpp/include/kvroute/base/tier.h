#pragma once

#include <cstddef>
#include <cstdint>

namespace kvroute {

/// Where an engine keeps a block, nearest first: its device's memory, its host's memory, a disk, or
/// a store shared with others.
enum class Tier : std::uint8_t { device, host, disk, external };

inline constexpr std::size_t kTiers = 4;

/// Position of a tier in arrays of kTiers.
[[nodiscard]] constexpr std::size_t index_of(Tier tier) noexcept {
  return static_cast<std::size_t>(tier);
}

}  // namespace kvroute
