#include "kvroute/base/clock.h"

#include <chrono>
#include <cmath>
#include <string>

#include "kvroute/base/error.h"

namespace kvroute {

Nanoseconds MonotonicClock::now() const noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void VirtualClock::advance(double seconds) {
  constexpr double kRange = 9.0e9;  // seconds; the int64 nanoseconds end at 9.22e9
  const double target = ns_to_seconds(now()) + seconds;
  if (!std::isfinite(seconds) || seconds < 0 || target > kRange) {
    throw InvalidArgument("seconds: expected a finite number >= 0 that keeps the clock below " +
                          std::to_string(kRange) + " s, got " + std::to_string(seconds));
  }
  now_.fetch_add(seconds_to_ns(seconds), std::memory_order_acq_rel);
}

}  // namespace kvroute
