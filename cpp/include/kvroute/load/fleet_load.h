#pragma once

#include <algorithm>
#include <cstdint>

#include "kvroute/base/clock.h"
#include "kvroute/load/decaying.h"
#include "kvroute/load/prefill_model.h"

namespace kvroute {

/// What all targets of a router do together, and the parameters that their loads were kept with.
/// Means are over about the last 64 requests, rates over about 32 arrivals a target.
struct FleetLoad {
  PrefillModel prefill;
  std::uint32_t targets = 0;            ///< that take part, those that only decode included
  ArrivalRate arrivals;                 ///< of bookings
  double arrival_memory = 32;           ///< arrivals that `arrivals` remembers: 32 a target
  RunningMean prefill_seconds;          ///< of booked requests, as `prefill` predicts them
  RunningMean prefill_scale;            ///< measured by predicted prefill time, over all targets
  RunningMean output_tokens;            ///< of requests that ended and of whose output was told
  RunningMean decode_seconds;           ///< from first token to end
  double recent_time_constant = 30;     ///< seconds, of `TargetLoad::recent_requests`
  double window_seconds = 60;           ///< of request rates and mean times to first token
  double report_lifetime_seconds = 60;  ///< an engine's report counts for so long

  /// Arrivals that a target's own share of `arrivals` remembers.
  [[nodiscard]] double memory_of_a_target() const noexcept {
    return arrival_memory / (targets > 0 ? targets : 1);
  }
  /// How much a measurement of that time still counts: in full for a third of `window_seconds`,
  /// then evenly less, nothing at its end.
  [[nodiscard]] double freshness(Nanoseconds measured_at, Nanoseconds now) const noexcept {
    const double age = ns_to_seconds(std::max<Nanoseconds>(now - measured_at, 0));
    return std::clamp(1.5 * (1 - age / window_seconds), 0.0, 1.0);
  }
  /// Arrivals a second and target. Where some targets only decode, too few for those that take
  /// prompts: legs of phase kDecode are no arrivals, but their targets are counted.
  [[nodiscard]] double arrivals_per_target(Nanoseconds now) const noexcept {
    return targets == 0 ? 0 : arrivals.per_second(now, arrival_memory) / targets;
  }
};

}  // namespace kvroute
