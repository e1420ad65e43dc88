#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"
#include "kvroute/load/fleet_load.h"
#include "kvroute/policy/pick.h"

namespace kvroute {

namespace detail {
struct Roster;
}

/// What is known of each eligible target, in numbers, for a policy outside the core. NaN: unknown.
inline constexpr std::array<std::string_view, 32> kFeatureNames{
    "held",                  // leading blocks of the prompt that are reachable on its device
    "host",                  // the same in any tier from the device to its host memory,
    "disk",                  // ... to its disk,
    "external",              // ... to a store outside
    "active",                // leading blocks that requests there use
    "confidence",            // in what it is known to hold: a level of `confidence`
    "cached_tokens",         // of the prompt, on its device
    "uncached_tokens",       // of the prompt: all others
    "prefill_seconds",       // of these, as the router's prefill model predicts
    "prefill_tokens",        // booked: uncached, without a first token
    "backlog_seconds",       // the same as time, as predicted
    "backlog_left_seconds",  // the same by `prefill_scale`, less what was computed of the oldest
    "prefill_scale",         // measured by predicted prefill time, with the fleet's as policies do
    "mean_prefill_seconds",  // of its last bookings, as predicted; unknown before the first
    "arrival_seconds",       // between its last bookings; infinite before the second
    "active_blocks",         // booked, output included, a shared prefix once
    "expected_output_blocks",  // that bookings will still grow by
    "requests",                // booked
    "prefilling",              // of them, those without a first token
    "total_blocks",            // its KV cache; unknown where nobody said
    "block_size",              // tokens of each of its blocks
    "waiting",                 // as its engine reports, while that is fresh; so are the next two
    "running",
    "kv_usage",             // share of its KV blocks in use
    "unreported",           // chosen for since it reported `waiting`, without a first token
    "unfinished",           // the same, and not ended
    "report_age",           // seconds since the last report
    "recent_requests",      // chosen for, fading with time
    "recent_tokens",        // uncached tokens of these
    "request_rate",         // chosen for, a second, in the load window
    "first_token_seconds",  // mean from booking to first token in it; unknown without one
    "preference",           // weights of the request's preferred labels that it has
};

/// How far the index may be trusted on a target: levels to compare and weigh by, no probabilities.
namespace confidence {
inline constexpr double kExact = 1;         ///< its event stream is connected, nothing is missing
inline constexpr double kPartial = 0.5;     ///< it has one, but is not connected, or a part of its
                                            ///< engine's past is not known
inline constexpr double kPredicted = 0.25;  ///< no events: this router's own decisions alone
}  // namespace confidence

/// The figures of one request's eligible targets at one time, and what it takes to decide by costs
/// that somebody makes of them. Immutable.
struct Features {
  std::uint64_t num_tokens = 0;
  std::uint32_t block_size = 1;  ///< the router's
  std::string session_id;        ///< empty: none
  std::optional<std::uint32_t> expected_output_tokens;
  FleetLoad fleet;
  Nanoseconds now = 0;
  std::uint64_t membership = 0;  ///< of the router's targets
  std::shared_ptr<const detail::Roster> roster;
  std::vector<Slot> slots;     ///< ascending
  std::vector<double> values;  ///< by feature, then by target
  /// Local hashes of the request, by block size: a decision need not compute them again.
  std::vector<std::pair<std::uint32_t, std::vector<std::uint64_t>>> hashes;

  /// Worker and rank of the target at a position.
  [[nodiscard]] const TargetId& target(std::size_t position) const;
};

/// Costs that the caller made of `features`, one for each of its targets; none is NaN.
struct GivenCosts {
  const Features* features = nullptr;
  std::span<const double> costs;
  PickRule rule;
};

}  // namespace kvroute
