#pragma once

#include <algorithm>
#include <span>

#include "kvroute/policy/score_input.h"

namespace kvroute::detail {

// What several policies predict and count alike. Pure functions.

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

/// Seconds that are left of the backlog: the head has been computed on since it came to the front.
/// Before the scale.
[[nodiscard]] inline double backlog_left(const TargetLoad& load, Nanoseconds now) noexcept {
  if (load.prefilling == 0) return 0;
  const double done = ns_to_seconds(std::max<Nanoseconds>(now - load.head_started, 0));
  return std::max(0.0, load.backlog_seconds - std::min(done, load.head_seconds));
}

/// Time to first token: the backlog's rest, then the prefill of what is not on the device.
/// `fleet_scale` is that of a target without measurements.
[[nodiscard]] inline double time_to_first_token(const ScoreInput& input, Slot slot,
                                                double fleet_scale) noexcept {
  const TargetLoad& load = input.loads[slot];
  return prefill_scale(load, fleet_scale) *
         (backlog_left(load, input.now) +
          input.fleet->prefill.seconds(input.num_tokens, input.cached_tokens(slot)));
}

/// Tokens of the KV blocks that bookings use there.
[[nodiscard]] inline std::uint64_t tokens_in_use(const ScoreInput& input, Slot slot) noexcept {
  return input.loads[slot].active_blocks() * input.block_sizes[slot];
}

/// How many full blocks of a target's size the prompt has. Most targets have the router's size,
/// and a division costs as much as the rest of a cheap score.
class FullBlocks {
 public:
  explicit FullBlocks(const ScoreInput& input) noexcept
      : input_(input), usual_(input.num_tokens / input.block_size) {}
  [[nodiscard]] std::uint64_t operator()(Slot slot) const noexcept {
    const std::uint32_t size = input_.block_sizes[slot];
    return size == input_.block_size ? usual_ : input_.num_tokens / size;
  }
  /// Those that no booking there uses.
  [[nodiscard]] std::uint64_t added(Slot slot) const noexcept {
    const std::uint64_t full = (*this)(slot);
    return full - std::min<std::uint64_t>(full, input_.active[slot]);
  }

 private:
  const ScoreInput& input_;
  std::uint64_t usual_;
};

/// Engines' own figures, each as long as it is fresh, as `ScoreInput::reported`, for many of them.
class FreshReports {
 public:
  explicit FreshReports(const ScoreInput& input) noexcept
      : loads_(input.loads),
        now_(input.now),
        lifetime_(seconds_to_ns(input.report_lifetime_seconds)) {}
  [[nodiscard]] EngineLoad operator()(Slot slot) const noexcept {
    return loads_[slot].reported_within(lifetime_, now_);
  }

 private:
  std::span<const TargetLoad> loads_;
  Nanoseconds now_;
  Nanoseconds lifetime_;
};

}  // namespace kvroute::detail
