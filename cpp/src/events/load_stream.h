#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "events/log_throttle.h"
#include "kvroute/events/subscriber.h"

namespace kvroute::detail {

/// One stream of load reports without its socket.
class LoadStream {
 public:
  using Time = std::chrono::steady_clock::time_point;

  LoadStream(const LoadStreamConfig& config, const SubscriberOptions& options);

  void on_connected() noexcept;
  void on_disconnected() noexcept { stats_.connected = false; }

  /// The newest message of those that were waiting; `superseded` older ones were not read.
  void on_newest(std::string_view json, std::uint64_t superseded, Time now);
  void on_malformed_frames() noexcept { ++stats_.malformed_frames; }

  [[nodiscard]] const StreamStats& stats() const noexcept { return stats_; }

 private:
  LoadStreamConfig config_;
  StreamStats stats_;
  bool ever_connected_ = false;
  LogThrottle log_;
};

}  // namespace kvroute::detail
