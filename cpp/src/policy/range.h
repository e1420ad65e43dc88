#pragma once

#include <algorithm>
#include <limits>

namespace kvroute::detail {

/// The least and the most of some values; inverted infinities before the first.
struct Range {
  double least = std::numeric_limits<double>::infinity();
  double most = -std::numeric_limits<double>::infinity();

  void add(double value) noexcept {
    least = std::min(least, value);
    most = std::max(most, value);
  }
  /// Of one of the values: 1 for the least, 0 for the most, in between in proportion; 1 where all
  /// are equal.
  [[nodiscard]] double lowness(double value) const noexcept {
    return most > least ? (most - value) / (most - least) : 1;
  }
};

}  // namespace kvroute::detail
