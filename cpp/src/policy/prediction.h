#pragma once

#include <algorithm>

#include "kvroute/policy/score_input.h"

namespace kvroute::detail {

// What several policies predict alike. All in seconds; pure functions.

inline constexpr double kLeastScale = 1.0 / 8;
inline constexpr double kMostScale = 8;

/// Measured by predicted prefill time of a target; the fleet's where it has none yet, else 1; held
/// in [1/8, 8], so that one odd measurement cannot decide for long.
[[nodiscard]] inline double prefill_scale(const TargetLoad& load, double of_fleet) noexcept {
  return std::clamp(load.prefill_scale.value(of_fleet), kLeastScale, kMostScale);
}
[[nodiscard]] inline double fleet_prefill_scale(const FleetLoad& fleet) noexcept {
  return std::clamp(fleet.prefill_scale.value(1), kLeastScale, kMostScale);
}

/// What is left of the backlog: the head has been computed on since it came to the front. Before
/// the scale.
[[nodiscard]] inline double backlog_left(const TargetLoad& load, Nanoseconds now) noexcept {
  if (load.prefilling == 0) return 0;
  const double done = ns_to_seconds(std::max<Nanoseconds>(now - load.head_started, 0));
  return std::max(0.0, load.backlog_seconds - std::min(done, load.head_seconds));
}

/// Full blocks of the prompt, in the target's size, that no booking there uses.
[[nodiscard]] inline std::uint64_t blocks_added(const ScoreInput& input, Slot slot) noexcept {
  const std::uint64_t full = input.num_tokens / input.block_sizes[slot];
  return full - std::min<std::uint64_t>(full, input.active[slot]);
}

}  // namespace kvroute::detail
