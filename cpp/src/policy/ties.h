#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "kvroute/policy/pick.h"
#include "policy/prediction.h"

namespace kvroute::detail {

/// Whether the least cost is taken, of all candidates, by this rule and what the request asks.
[[nodiscard]] inline bool takes_the_least(const PickRule& rule, const ScoreInput& input) noexcept {
  return rule.sample == 0 && input.overrides.temperature.value_or(rule.temperature) <= 0;
}

/// Measures a candidate, by its position, by the tokens that bookings use there.
struct TokensInUse {
  const ScoreInput& input;
  [[nodiscard]] std::uint64_t operator()(std::size_t at) const noexcept {
    return tokens_in_use(input, input.candidates[at]);
  }
};

/// How much predicted seconds must differ for one to be the better: predictions err by more, and
/// who loses by less would never be measured again.
inline constexpr double kNearShare = 0.05;
inline constexpr double kNearSeconds = 0.001;

/// The most that counts as equal to `least`.
[[nodiscard]] inline double nearly(double least) noexcept {
  return least + kNearShare * std::abs(least) + kNearSeconds;
}

/// Of those considered, the one with the least measure; of equals any, evenly.
template <typename Measure>
class LeastUsed {
 public:
  void consider(std::size_t at, const Measure& measure, Random& random) noexcept {
    if (ties_ == 0 || measure < least_) {
      ties_ = 1;
      at_ = at;
      least_ = measure;
    } else if (measure == least_ && random.below(++ties_) == 0) {
      at_ = at;
    }
  }
  /// 0 where none was considered.
  [[nodiscard]] std::size_t at() const noexcept { return at_; }

 private:
  std::uint64_t ties_ = 0;
  std::size_t at_ = 0;
  Measure least_{};
};

/// Of costs in seconds within 5 % and 1 ms of the least: position of the target that was chosen
/// least of late (`sent_of_late`), of equals that with the fewest tokens in use,
/// then any, evenly. `costs` must not be empty, a NaN counts as infinite.
[[nodiscard]] std::size_t pick_nearly_least(const ScoreInput& input, std::span<const double> costs,
                                            Random& random) noexcept;

/// Position of the least cost; exact ties go to the least of `second(position)`, then evenly. As
/// `pick_least`, but for the second measure: `costs` must not be empty, a NaN counts as infinite.
template <typename Second>
[[nodiscard]] std::size_t pick_least_then(std::span<const double> costs, Random& random,
                                          const Second& second) noexcept {
  const auto cost_at = [&](std::size_t at) {
    return std::isnan(costs[at]) ? std::numeric_limits<double>::infinity() : costs[at];
  };
  std::size_t best = 0;
  std::uint64_t ties = 1;
  for (std::size_t i = 1; i < costs.size(); ++i) {
    if (cost_at(i) > cost_at(best)) continue;
    const bool tied = cost_at(i) == cost_at(best);
    if (tied && second(i) > second(best)) continue;
    if (!tied || second(i) < second(best)) {
      ties = 1;
      best = i;
    } else if (random.below(++ties) == 0) {
      best = i;
    }
  }
  return best;
}

}  // namespace kvroute::detail
