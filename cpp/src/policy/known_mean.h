#pragma once

#include <optional>

namespace kvroute::detail {

/// Mean of what is known; 0 where nothing is.
class KnownMean {
 public:
  void add(std::optional<double> value) noexcept {
    if (!value) return;
    sum_ += *value;
    ++count_;
  }
  [[nodiscard]] double value() const noexcept { return count_ > 0 ? sum_ / count_ : 0; }

 private:
  double sum_ = 0;
  double count_ = 0;
};

}  // namespace kvroute::detail
