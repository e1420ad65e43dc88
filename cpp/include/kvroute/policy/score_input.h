#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"
#include "kvroute/base/tier.h"
#include "kvroute/load/fleet_load.h"
#include "kvroute/load/target_load.h"

namespace kvroute {

/// What a request may ask of the policy that serves it; a policy without such a parameter does not
/// look at it. Absent: as the policy is configured.
struct RequestOverrides {
  std::optional<double> overlap_credit;      ///< kv_cost: blocks forgiven per cached block, 0 to 1
  std::optional<double> prefill_scale;       ///< kv_cost: weight of a block to prefill
  std::optional<double> temperature;         ///< of the pick, 0: the least cost
  std::optional<bool> assume_kv_reuse;       ///< kv_cost: whether it shares blocks with others
  std::optional<bool> track_prefill_tokens;  ///< kv_cost: whether prefill costs anything
};

/// What is known of one request and of everyone who could serve it: all that a policy may look at.
///
/// Spans named "by slot" are indexed by a target's slot and reach at least to the greatest
/// candidate. They are views: valid during one decision.
struct ScoreInput {
  // The request.
  std::uint64_t num_tokens = 0;           ///< of the prompt; at least 1
  std::uint32_t block_size = 1;           ///< the router's: the unit of costs counted in blocks
  std::span<const std::uint64_t> hashes;  ///< local hashes of its full blocks of that size
  std::optional<std::uint64_t> session;   ///< hash of its session id; absent: it has none
  std::optional<std::uint32_t> expected_output_tokens;  ///< as the caller said
  RequestOverrides overrides;

  // Who could serve it.
  std::span<const Slot> candidates;     ///< who may be chosen, ascending, at least one
  std::span<const std::uint32_t> held;  ///< by slot: leading blocks reachable on its device
  /// By tier, then by slot: leading blocks in any tier from the device to that one. The first is
  /// `held`; empty where nobody holds more of the request there than on its device.
  std::array<std::span<const std::uint32_t>, kTiers> depths{};
  std::span<const std::uint32_t> active;        ///< by slot: leading blocks that its bookings use
  std::span<const std::uint32_t> block_sizes;   ///< by slot: tokens per block of the target
  std::span<const std::uint64_t> total_blocks;  ///< by slot: its KV blocks; 0: unknown
  std::span<const std::uint64_t> identities;    ///< by slot: hash of worker name and rank, the
                                                ///< same in every process
  std::span<const std::uint32_t> turns;  ///< by slot: place in the order of worker names and ranks
  std::span<const double> preferences;   ///< by slot: weights of preferred labels that match; may
                                         ///< be empty: none

  // What they are doing.
  std::span<const TargetLoad> loads;         ///< by slot
  std::span<const TargetHistory> histories;  ///< by slot
  const FleetLoad* fleet = nullptr;          ///< never null in a decision
  Nanoseconds now = 0;                       ///< of the clock that reports carry
  double report_lifetime_seconds = 60;       ///< an engine's report counts for so long

  /// Leading tokens of the prompt whose KV the target has on its device.
  [[nodiscard]] std::uint64_t cached_tokens(Slot slot) const noexcept {
    return tokens_of(slot, held[slot]);
  }
  /// The same, where blocks of requests that run or wait there count as well.
  [[nodiscard]] std::uint64_t cached_or_active_tokens(Slot slot) const noexcept {
    return tokens_of(slot, held[slot] > active[slot] ? held[slot] : active[slot]);
  }
  /// The same in any tier from the device to `tier`.
  [[nodiscard]] std::uint64_t cached_tokens(Slot slot, Tier tier) const noexcept {
    const auto& depth = depths[index_of(tier)];
    return depth.empty() ? cached_tokens(slot) : tokens_of(slot, depth[slot]);
  }
  /// Tokens that the target would have to compute.
  [[nodiscard]] std::uint64_t uncached_tokens(Slot slot) const noexcept {
    return num_tokens - cached_tokens(slot);
  }
  /// The engine's own figures, each as long as it is fresh.
  [[nodiscard]] EngineLoad reported(Slot slot) const noexcept {
    return loads[slot].reported_within(seconds_to_ns(report_lifetime_seconds), now);
  }

 private:
  [[nodiscard]] std::uint64_t tokens_of(Slot slot, std::uint32_t blocks) const noexcept {
    const std::uint64_t tokens = std::uint64_t{blocks} * block_sizes[slot];
    return tokens < num_tokens ? tokens : num_tokens;
  }
};

}  // namespace kvroute
