#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "kvroute/base/clock.h"

namespace kvroute {

/// Count and sum of amounts added in the last `length` seconds, to a sixteenth of that: a ring of
/// 16 parts. Reading is O(1) and changes nothing; so is adding, but for O(16) where a new part
/// begins.
class Window {
 public:
  struct Total {
    std::uint64_t count = 0;
    double sum = 0;
    [[nodiscard]] double mean(double absent = 0) const noexcept {
      return count > 0 ? sum / static_cast<double>(count) : absent;
    }
    Total& operator+=(const Total& other) noexcept {
      count += other.count;
      sum += other.sum;
      return *this;
    }
  };

  /// The part that `now` lies in. The same for all windows of one length: who reads many of them
  /// at one time divides once.
  class Part {
   public:
    Part(Nanoseconds now, double length) noexcept
        : number_(std::max<Nanoseconds>(now, 0) /
                  std::max<Nanoseconds>(seconds_to_ns(length / static_cast<double>(kParts)), 1)) {}

   private:
    friend class Window;
    std::int64_t number_;
  };

  /// `length`, in seconds, must be the same in every call.
  void add(double amount, Nanoseconds now, double length) noexcept {
    advance(Part(now, length).number_);
    ++newest_total_.count;
    newest_total_.sum += amount;
  }
  [[nodiscard]] Total total(Nanoseconds now, double length) const noexcept {
    return total(Part(now, length));
  }
  [[nodiscard]] Total total(Part now) const noexcept {
    const std::int64_t oldest =
        std::max<std::int64_t>({now.number_ - kParts + 1, newest_ - kParts + 1, 0});
    if (oldest > newest_) return {};
    Total all = before_newest_[index_of(oldest)];
    all += newest_total_;
    return all;
  }

 private:
  static constexpr std::int64_t kParts = 16;

  [[nodiscard]] static std::size_t index_of(std::int64_t part) noexcept {
    return static_cast<std::size_t>(part % kParts);
  }
  void advance(std::int64_t part) noexcept {
    if (part <= newest_) return;
    if (part - newest_ >= kParts) {
      before_newest_ = {};
      newest_ = part;
    } else {
      for (Total& total : before_newest_) total += newest_total_;
      while (newest_ < part) before_newest_[index_of(++newest_)] = {};
    }
    newest_total_ = {};
  }

  // Of each of the last 16 parts: what came from its beginning to that of the newest part.
  std::array<Total, static_cast<std::size_t>(kParts)> before_newest_{};
  Total newest_total_;
  std::int64_t newest_ = 0;
};

}  // namespace kvroute
