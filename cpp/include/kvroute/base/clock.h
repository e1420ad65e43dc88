#pragma once

#include <atomic>
#include <cstdint>
#include <limits>

namespace kvroute {

/// A point in a clock's time: nanoseconds since an origin that only that clock knows.
using Nanoseconds = std::int64_t;

[[nodiscard]] constexpr Nanoseconds seconds_to_ns(double seconds) noexcept {
  return static_cast<Nanoseconds>(seconds * 1e9);
}
[[nodiscard]] constexpr double ns_to_seconds(Nanoseconds ns) noexcept {
  return static_cast<double>(ns) * 1e-9;
}

/// `duration` after `time`, or the end of time where that is earlier.
[[nodiscard]] constexpr Nanoseconds after(Nanoseconds time, Nanoseconds duration) noexcept {
  constexpr Nanoseconds kEnd = std::numeric_limits<Nanoseconds>::max();
  return time > kEnd - duration ? kEnd : time + duration;
}

/// Where the core takes its time from. Injected, so that a simulation drives the same code.
/// Implementations are thread-safe and never go back.
class Clock {
 public:
  Clock() = default;
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
  virtual ~Clock() = default;

  [[nodiscard]] virtual Nanoseconds now() const noexcept = 0;
};

/// The system's monotonic clock; the default.
class MonotonicClock final : public Clock {
 public:
  [[nodiscard]] Nanoseconds now() const noexcept override;
};

/// A clock that moves only when told to.
class VirtualClock final : public Clock {
 public:
  [[nodiscard]] Nanoseconds now() const noexcept override {
    return now_.load(std::memory_order_acquire);
  }

  /// Moves time forward. \throws InvalidArgument if `seconds` is negative, not finite, or would
  /// leave the clock's range (292 years).
  void advance(double seconds);

 private:
  std::atomic<Nanoseconds> now_{0};
};

}  // namespace kvroute
