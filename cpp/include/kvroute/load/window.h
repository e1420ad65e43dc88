#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "kvroute/base/clock.h"

namespace kvroute {

/// Count and sum of amounts added in the last `length` seconds, to a sixteenth of that: a ring of
/// 16 parts. O(16) to read and to move on, whatever was added.
class Window {
 public:
  struct Total {
    std::uint64_t count = 0;
    double sum = 0;
    [[nodiscard]] double mean(double absent = 0) const noexcept {
      return count > 0 ? sum / static_cast<double>(count) : absent;
    }
  };

  /// `length`, in seconds, must be the same in every call.
  void add(double amount, Nanoseconds now, double length) noexcept {
    const std::int64_t part = part_of(now, length);
    advance(part);
    Total& total = parts_[static_cast<std::size_t>(newest_ % kParts)];
    ++total.count;
    total.sum += amount;
  }
  [[nodiscard]] Total total(Nanoseconds now, double length) const noexcept {
    Total all;
    const std::int64_t oldest = part_of(now, length) - kParts + 1;
    for (std::int64_t part = std::max<std::int64_t>({oldest, newest_ - kParts + 1, 0});
         part <= newest_; ++part) {
      const Total& total = parts_[static_cast<std::size_t>(part % kParts)];
      all.count += total.count;
      all.sum += total.sum;
    }
    return all;
  }

 private:
  static constexpr std::int64_t kParts = 16;

  [[nodiscard]] static std::int64_t part_of(Nanoseconds now, double length) noexcept {
    return std::max<Nanoseconds>(now, 0) /
           std::max<Nanoseconds>(seconds_to_ns(length / static_cast<double>(kParts)), 1);
  }
  void advance(std::int64_t part) noexcept {
    if (part - newest_ >= kParts) {
      parts_ = {};
      newest_ = part;
    }
    while (newest_ < part) parts_[static_cast<std::size_t>(++newest_ % kParts)] = {};
  }

  std::array<Total, static_cast<std::size_t>(kParts)> parts_{};
  std::int64_t newest_ = 0;
};

}  // namespace kvroute
