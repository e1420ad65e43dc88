#pragma once

#include <algorithm>
#include <optional>

#include "policy/range.h"

namespace kvroute::detail {

/// Mean of what is known; 0 where nothing is. Of equal values it is that value itself, so that who
/// counts as the mean ties with them.
class KnownMean {
 public:
  void add(std::optional<double> value) noexcept {
    if (!value) return;
    sum_ += *value;
    range_.add(*value);
    ++count_;
  }
  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  [[nodiscard]] const Range& range() const noexcept { return range_; }
  [[nodiscard]] double value() const noexcept {
    return count_ > 0 ? std::clamp(sum_ / count_, range_.least, range_.most) : 0;
  }

 private:
  double sum_ = 0;
  double count_ = 0;
  Range range_;
};

}  // namespace kvroute::detail
