#pragma once

#include <cstdint>
#include <optional>

#include "kvroute/base/clock.h"
#include "kvroute/load/decaying.h"
#include "kvroute/load/window.h"

namespace kvroute {

/// What an engine says of itself. A field that is absent was not reported.
struct EngineLoad {
  std::optional<std::uint32_t> waiting;  ///< requests queued in the engine
  std::optional<std::uint32_t> running;  ///< requests in its running batch
  std::optional<double> kv_usage;        ///< share of its KV blocks in use, 0 to 1
};

/// When an engine last spoke of each of its figures; meaningful where that figure is known.
struct ReportTimes {
  Nanoseconds waiting = 0;
  Nanoseconds running = 0;
  Nanoseconds kv_usage = 0;
};

/// Arrivals that a target's own rates and means remember.
inline constexpr double kArrivalMemory = 32;

/// What one target is doing, as this router knows it. Booked figures come from this router's own
/// reservations and are exact for them; reported ones come from the engine and carry an age.
struct TargetLoad {
  std::uint64_t prefill_tokens = 0;  ///< uncached prompt tokens of bookings without a first token
  std::uint64_t prompt_blocks = 0;   ///< prompt blocks of bookings, a shared prefix counted once
  std::uint64_t output_blocks = 0;   ///< blocks that the output of bookings has grown by
  std::uint32_t requests = 0;        ///< bookings that have not ended
  std::uint32_t prefilling = 0;      ///< of them, those without a first token
  /// Blocks that the output of bookings is still expected to grow by: what the caller said, else
  /// the fleet's mean output.
  std::uint64_t expected_output_blocks = 0;

  // Prefill as work: seconds that `FleetLoad::prefill` predicts, before `prefill_scale`.
  double backlog_seconds = 0;    ///< of bookings without a first token, together
  double head_seconds = 0;       ///< of the oldest of them
  Nanoseconds head_started = 0;  ///< when it came to the head; meaningful while `prefilling` > 0

  // Measured.
  /// Measured by predicted prefill time over about the last 64 first tokens, as a ratio of sums, in
  /// [1/8, 8]. Measured: from the booking, or from the target's last first token or end of a head
  /// if that came later, to the first token. The fleet's counts before there is one, and policies
  /// let it fade to that; at each measurement those before weigh by FleetLoad::freshness.
  RunningMean prefill_scale;
  Nanoseconds prefill_measured_at = 0;  ///< the last time; meaningful once there is a scale
  ArrivalRate arrivals;                 ///< of bookings
  RunningMean prefill_seconds;          ///< of bookings, as predicted
  DecayingSum recent_requests;          ///< chosen for, fading by FleetLoad::recent_time_constant
  DecayingSum recent_tokens;            ///< uncached tokens of those

  EngineLoad reported;
  ReportTimes reported_times;   ///< of each figure in `reported`: sources may report some only
  Nanoseconds reported_at = 0;  ///< of the last report; meaningful once `reports` > 0
  std::uint64_t reports = 0;    ///< how many reports came
  /// Times chosen since the engine's last report of `waiting`, less those whose booking has had its
  /// first token or ended: requests that may wait there and that the report does not count. A
  /// request that was only selected, not booked, counts until the next report: nobody tells its
  /// end.
  std::uint32_t unreported = 0;
  /// The same, less those whose booking has ended only: requests that may wait or run there.
  std::uint32_t unfinished = 0;
  std::uint64_t selections = 0;  ///< times chosen ever
  Nanoseconds joined_at = 0;     ///< when the target was added

  [[nodiscard]] std::uint64_t active_blocks() const noexcept {
    return prompt_blocks + output_blocks;
  }
  /// The figures of `reported`, each where it is at most `lifetime` old.
  [[nodiscard]] std::optional<std::uint32_t> waiting_within(Nanoseconds lifetime,
                                                            Nanoseconds now) const noexcept {
    return within(reported.waiting, reported_times.waiting, lifetime, now);
  }
  [[nodiscard]] std::optional<std::uint32_t> running_within(Nanoseconds lifetime,
                                                            Nanoseconds now) const noexcept {
    return within(reported.running, reported_times.running, lifetime, now);
  }
  [[nodiscard]] std::optional<double> kv_usage_within(Nanoseconds lifetime,
                                                      Nanoseconds now) const noexcept {
    return within(reported.kv_usage, reported_times.kv_usage, lifetime, now);
  }
  [[nodiscard]] EngineLoad reported_within(Nanoseconds lifetime, Nanoseconds now) const noexcept {
    return {.waiting = waiting_within(lifetime, now),
            .running = running_within(lifetime, now),
            .kv_usage = kv_usage_within(lifetime, now)};
  }

 private:
  template <typename Figure>
  [[nodiscard]] static std::optional<Figure> within(const std::optional<Figure>& figure,
                                                    Nanoseconds told_at, Nanoseconds lifetime,
                                                    Nanoseconds now) noexcept {
    if (now > after(told_at, lifetime)) return std::nullopt;
    return figure;
  }
};

/// What one target did in the last FleetLoad::window_seconds. Apart from TargetLoad, which every
/// decision reads.
struct TargetHistory {
  Window requests;      ///< chosen for; the amounts are uncached tokens
  Window first_tokens;  ///< the amounts are seconds from booking to first token
};

}  // namespace kvroute
