#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "kvroute/base/log.h"

namespace kvroute::detail {

/// Lets one record of a kind through per interval, and says how many it has held back since.
class LogThrottle {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit LogThrottle(std::chrono::milliseconds interval) noexcept : interval_(interval) {}

  void log(LogLevel level, std::string message, Time now) {
    if (next_ && now < *next_) {
      ++held_back_;
      return;
    }
    if (held_back_ > 0) message += " (" + std::to_string(held_back_) + " like it before)";
    held_back_ = 0;
    next_ = now + interval_;
    kvroute::log(level, std::move(message));
  }

 private:
  std::chrono::milliseconds interval_;
  std::optional<Time> next_;
  std::uint64_t held_back_ = 0;
};

}  // namespace kvroute::detail
