#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>

#include "kvroute/policy/score_input.h"

namespace kvroute::detail {

// What several policies predict and count alike. Pure functions.

inline constexpr double kLeastScale = 1.0 / 8;
inline constexpr double kMostScale = 8;
inline constexpr double kTrusted = 32;  // first tokens of a target

/// Measured by predicted prefill time of each target, held in [1/8, 8]. It counts beside the
/// fleet's by how far it can be trusted:
///
///     trust = min(1, n/32) * FleetLoad::freshness of the last
///
/// for n first tokens. So one odd measurement decides little, and who is not chosen, hence not
/// measured, is not avoided for ever for what was once. The fleet's is 1 before its first
/// measurement.
class PrefillScales {
 public:
  explicit PrefillScales(const ScoreInput& input) noexcept
      : loads_(input.loads),
        now_(input.now),
        fleet_(input.fleet),
        surely_fresh_(seconds_to_ns(0.333 * input.fleet->window_seconds)),
        of_fleet_(std::clamp(input.fleet->prefill_scale.value(1), kLeastScale, kMostScale)) {}
  [[nodiscard]] double operator()(Slot slot) const noexcept {
    const TargetLoad& load = loads_[slot];
    if (load.prefill_scale.empty()) return of_fleet_;
    const double own = std::clamp(load.prefill_scale.value(), kLeastScale, kMostScale);
    const double trust = std::min(1.0, load.prefill_scale.count() / kTrusted) * freshness(load);
    return trust == 1 ? own : of_fleet_ + (own - of_fleet_) * trust;
  }
  [[nodiscard]] double of_fleet() const noexcept { return of_fleet_; }

 private:
  // A division costs as much as the rest.
  [[nodiscard]] double freshness(const TargetLoad& load) const noexcept {
    if (now_ - load.prefill_measured_at < surely_fresh_) return 1;
    return fleet_->freshness(load.prefill_measured_at, now_);
  }

  std::span<const TargetLoad> loads_;
  Nanoseconds now_;
  const FleetLoad* fleet_;
  Nanoseconds surely_fresh_;  // a measurement counts in full, by FleetLoad::freshness
  double of_fleet_;
};

/// Seconds that are left of a target's backlog, of which each predicted second takes `scale`: the
/// head has been computed on since it came to the front.
[[nodiscard]] inline double backlog_left(const TargetLoad& load, Nanoseconds now,
                                         double scale) noexcept {
  if (load.prefilling == 0) return 0;
  const double done = ns_to_seconds(std::max<Nanoseconds>(now - load.head_started, 0));
  return std::max(0.0, scale * load.backlog_seconds - std::min(done, scale * load.head_seconds));
}

/// Time to first token: the backlog's rest, then the prefill of what is not on the device.
[[nodiscard]] inline double time_to_first_token(const ScoreInput& input, Slot slot,
                                                const PrefillScales& scales) noexcept {
  const double scale = scales(slot);
  return backlog_left(input.loads[slot], input.now, scale) +
         scale * input.fleet->prefill.seconds(input.num_tokens, input.cached_tokens(slot));
}

/// Requests that a target was chosen for of late: `TargetLoad::recent_requests`, for one that
/// joined t seconds ago divided by what a steady memory holds by then, 1 -
/// exp(-t/recent_time_constant). So a new target counts by its rate, and need not catch up with
/// what the others were ever sent.
[[nodiscard]] inline double sent_of_late(const ScoreInput& input, Slot slot) noexcept {
  constexpr double kLeastMemory = 0.15;  // of a target that joined just now: a sixth of the time
  constexpr double kFullMemory = 7;      // time constants
  const TargetLoad& load = input.loads[slot];
  const double time_constant = input.fleet->recent_time_constant;
  const double sent = load.recent_requests.value(input.now, time_constant);
  const double age = ns_to_seconds(input.now - load.joined_at) / time_constant;
  return age < kFullMemory ? sent / std::max(kLeastMemory, -std::expm1(-age)) : sent;
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

/// Blocks that a target needs with the request: those in use, those that its bookings are still
/// expected to grow by, and of the request the prompt's that are not active there and those of its
/// expected output. That is what the caller said, else the fleet's mean.
class BlocksNeeded {
 public:
  explicit BlocksNeeded(const ScoreInput& input) noexcept
      : input_(input),
        full_blocks_(input),
        output_tokens_(input.expected_output_tokens ? *input.expected_output_tokens
                                                    : input.fleet->output_tokens.value()),
        output_blocks_(output_tokens_ / input.block_size) {}
  [[nodiscard]] double operator()(Slot slot) const noexcept {
    const TargetLoad& load = input_.loads[slot];
    const std::uint32_t size = input_.block_sizes[slot];
    return static_cast<double>(load.active_blocks() + load.expected_output_blocks +
                               full_blocks_.added(slot)) +
           (size == input_.block_size ? output_blocks_ : output_tokens_ / size);
  }
  [[nodiscard]] double output_tokens() const noexcept { return output_tokens_; }

 private:
  const ScoreInput& input_;
  FullBlocks full_blocks_;
  double output_tokens_;
  double output_blocks_;  // of the router's size
};

/// Engines' own figures, each as long as it is fresh, as `ScoreInput::reported`, one figure of many
/// engines.
class FreshReports {
 public:
  explicit FreshReports(const ScoreInput& input) noexcept
      : loads_(input.loads),
        now_(input.now),
        lifetime_(seconds_to_ns(input.report_lifetime_seconds)) {}
  [[nodiscard]] std::optional<std::uint32_t> running(Slot slot) const noexcept {
    return loads_[slot].running_within(lifetime_, now_);
  }
  [[nodiscard]] std::optional<double> kv_usage(Slot slot) const noexcept {
    return loads_[slot].kv_usage_within(lifetime_, now_);
  }

 private:
  std::span<const TargetLoad> loads_;
  Nanoseconds now_;
  Nanoseconds lifetime_;
};

}  // namespace kvroute::detail
