#pragma once

#include <cstddef>

#include "kvroute/load/prefill_model.h"

namespace kvroute {

struct LoadOptions {
  double reservation_ttl_seconds = 600;  ///< silence after which a booking is dropped
  std::size_t max_bookings = 1U << 20;   ///< beyond, the longest silent booking is dropped
  PrefillModel prefill{};                ///< by which prefills are predicted
  double recent_time_constant = 30;      ///< seconds, of `TargetLoad::recent_requests`
  double window_seconds = 60;            ///< of `TargetHistory`
  double report_lifetime_seconds = 60;   ///< an engine's report counts for so long

  /// \throws InvalidArgument for a time that is not positive, not finite or above 1e9 seconds, no
  /// bookings, tokens_per_second outside (0, 1e9] or attention_seconds outside [0, 1].
  void check() const;
};

}  // namespace kvroute
