#include "policy/ties.h"

#include <algorithm>
#include <utility>

namespace kvroute::detail {

std::size_t pick_nearly_least(const ScoreInput& input, std::span<const double> costs,
                              Random& random) noexcept {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto cost_at = [&](std::size_t at) {
    return std::isnan(costs[at]) ? kInfinity : costs[at];
  };
  double least = kInfinity;
  for (std::size_t i = 0; i < costs.size(); ++i) least = std::min(least, cost_at(i));
  const double most = least + kNearShare * std::abs(least) + kNearSeconds;
  const TokensInUse tokens_in_use{input};
  std::size_t best = 0;
  std::pair<double, std::uint64_t> best_use;
  std::uint64_t ties = 0;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    if (cost_at(i) > most) continue;
    const std::pair use(sent_of_late(input, input.candidates[i]), tokens_in_use(i));
    if (ties == 0 || use < best_use) {
      ties = 1;
      best = i;
      best_use = use;
    } else if (use == best_use && random.below(++ties) == 0) {
      best = i;
    }
  }
  return best;
}

}  // namespace kvroute::detail
