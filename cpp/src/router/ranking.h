#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "kvroute/policy/score_input.h"

namespace kvroute::detail {

/// Positions of the candidates, the best first, at most `most`: the least cost, an infinite one or
/// a NaN last. `costs` has one per candidate, or is empty where the policy has none. Of equal costs
/// the one whose bookings use the fewest tokens of KV blocks; of equals in that, those in the order
/// of slots. With `chosen`, a position: all but that one, and the order of slots begins after it
/// and goes around. O(candidates * log most).
[[nodiscard]] std::vector<std::size_t> best_first(const ScoreInput& input,
                                                  std::span<const double> costs, std::size_t most,
                                                  std::optional<std::size_t> chosen = {});

}  // namespace kvroute::detail
