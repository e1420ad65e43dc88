#pragma once

#include <algorithm>
#include <limits>
#include <optional>

namespace kvroute::detail {

/// Mean of what is known; 0 where nothing is. Of equal values it is that value itself, so that who
/// counts as the mean ties with them.
class KnownMean {
 public:
  void add(std::optional<double> value) noexcept {
    if (!value) return;
    sum_ += *value;
    least_ = std::min(least_, *value);
    most_ = std::max(most_, *value);
    ++count_;
  }
  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  [[nodiscard]] double value() const noexcept {
    return count_ > 0 ? std::clamp(sum_ / count_, least_, most_) : 0;
  }

 private:
  double sum_ = 0;
  double count_ = 0;
  double least_ = std::numeric_limits<double>::infinity();
  double most_ = -std::numeric_limits<double>::infinity();
};

}  // namespace kvroute::detail
