#include "kvroute/policy/pick.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "policy/least_cost.h"

namespace kvroute {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double comparable(double cost) noexcept { return std::isnan(cost) ? kInfinity : cost; }

struct Range {
  double least = kInfinity;
  double most = -kInfinity;  // of the finite ones
};

Range range_of(std::span<const double> costs) noexcept {
  Range range;
  for (const double raw : costs) {
    const double cost = comparable(raw);
    range.least = std::min(range.least, cost);
    if (cost < kInfinity) range.most = std::max(range.most, cost);
  }
  return range;
}

double weight_of(double raw, const Range& range, double temperature) noexcept {
  const double cost = comparable(raw);
  if (cost == kInfinity) return 0;
  const double width = range.most - range.least;
  if (!(width > 0)) return 1;
  // Costs of opposite signs near the greatest numbers: their difference is none.
  const double share = std::isinf(width) ? cost / range.most : (cost - range.least) / width;
  return std::exp(-share / temperature);
}

std::size_t pick_softly(std::span<const double> costs, double temperature,
                        Random& random) noexcept {
  const Range range = range_of(costs);
  if (!std::isfinite(range.least)) return pick_least(costs, random);
  double total = 0;
  for (const double cost : costs) total += weight_of(cost, range, temperature);
  double left = random.uniform() * total;
  std::size_t last = 0;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    const double weight = weight_of(costs[i], range, temperature);
    if (weight == 0) continue;
    last = i;
    left -= weight;
    if (left < 0) break;
  }
  return last;
}

// The least cost met so far; exact ties are spread evenly.
class Least {
 public:
  explicit Least(std::span<const double> costs) noexcept : costs_(costs) {}
  void consider(std::size_t at, Random& random) noexcept {
    const double cost = comparable(costs_[at]);
    if (ties_ == 0 || cost < comparable(costs_[best_])) {
      best_ = at;
      ties_ = 1;
    } else if (cost == comparable(costs_[best_]) && random.below(++ties_) == 0) {
      best_ = at;
    }
  }
  [[nodiscard]] std::size_t best() const noexcept { return best_; }

 private:
  std::span<const double> costs_;
  std::size_t best_ = 0;
  std::uint64_t ties_ = 0;
};

bool is_finite(double raw) noexcept { return comparable(raw) < kInfinity; }

// Selection sampling (Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S).
std::size_t pick_of_sample(std::span<const double> costs, std::uint64_t sample,
                           Random& random) noexcept {
  auto left = static_cast<std::uint64_t>(std::ranges::count_if(costs, is_finite));
  const bool all = left == 0;
  if (all) left = costs.size();
  Least least(costs);
  std::uint64_t wanted = std::min(sample, left);
  for (std::size_t at = 0; wanted > 0; ++at) {
    if (!all && !is_finite(costs[at])) continue;
    if (random.below(left--) >= wanted) continue;
    least.consider(at, random);
    --wanted;
  }
  return least.best();
}

// Pairs are drawn anew where one is not finite: so those that are keep equal chances.
std::size_t pick_of_two(std::span<const double> costs, Random& random) noexcept {
  const auto first = static_cast<std::size_t>(random.below(costs.size()));
  auto second = static_cast<std::size_t>(random.below(costs.size() - 1));
  if (second >= first) ++second;
  if (!is_finite(costs[first]) || !is_finite(costs[second])) {
    return pick_of_sample(costs, 2, random);
  }
  Least least(costs);
  least.consider(first, random);
  least.consider(second, random);
  return least.best();
}

}  // namespace

Turns& PickState::turns_of(const Policy& policy) {
  for (auto& [owner, of_owner] : turns) {
    if (owner == &policy) return of_owner;
  }
  return turns.emplace_back(&policy, Turns()).second;
}

std::size_t pick_least(std::span<const double> costs, Random& random) noexcept {
  const double least = detail::least_cost(costs);
  std::uint64_t ties = costs.size();
  if (least < kInfinity) {
    ties = 0;
    for (const double cost : costs) ties += cost == least ? 1U : 0U;
  }
  std::uint64_t skip = ties > 1 ? random.below(ties) : 0;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    if (comparable(costs[i]) == least && skip-- == 0) return i;
  }
  return 0;
}

std::size_t pick_by(const PickRule& rule, std::span<const double> costs, Random& random) noexcept {
  if (rule.temperature > 0) return pick_softly(costs, rule.temperature, random);
  if (rule.sample > 0 && rule.sample < costs.size()) {
    return rule.sample == 2 ? pick_of_two(costs, random)
                            : pick_of_sample(costs, rule.sample, random);
  }
  return pick_least(costs, random);
}

}  // namespace kvroute
