#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <span>

namespace kvroute::detail {

/// The least of the costs, infinite where there is none; a NaN counts as infinite. In four lanes,
/// since each comparison waits for the one before.
[[nodiscard]] inline double least_cost(std::span<const double> costs) noexcept {
  constexpr std::size_t kLanes = 4;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::array<double, kLanes> least{kInfinity, kInfinity, kInfinity, kInfinity};
  std::size_t at = 0;
  for (; at + kLanes <= costs.size(); at += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      least[lane] = costs[at + lane] < least[lane] ? costs[at + lane] : least[lane];
    }
  }
  for (; at < costs.size(); ++at) least[0] = costs[at] < least[0] ? costs[at] : least[0];
  return std::ranges::min(least);
}

}  // namespace kvroute::detail
