#include "policy/ties.h"

#include <utility>

#include "policy/least_cost.h"

namespace kvroute::detail {

std::size_t pick_nearly_least(const ScoreInput& input, std::span<const double> costs,
                              Random& random) noexcept {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto cost_at = [&](std::size_t at) {
    return std::isnan(costs[at]) ? kInfinity : costs[at];
  };
  const double least = least_cost(costs);
  const double most = nearly(least);
  const TokensInUse tokens_in_use{input};
  LeastUsed<std::pair<double, std::uint64_t>> best;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    if (cost_at(i) > most) continue;
    best.consider(i, {sent_of_late(input, input.candidates[i]), tokens_in_use(i)}, random);
  }
  return best.at();
}

}  // namespace kvroute::detail
