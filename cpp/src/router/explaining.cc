#include "router/explaining.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace kvroute::detail {
namespace {

// Positions of the candidates, the least cost first.
std::vector<std::size_t> by_cost(std::span<const double> costs, bool has_cost) {
  const auto comparable = [&](std::size_t position) {
    return std::isnan(costs[position]) ? std::numeric_limits<double>::infinity() : costs[position];
  };
  std::vector<std::size_t> order(costs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (has_cost) {
    std::ranges::sort(order, {}, [&](std::size_t at) { return std::pair(comparable(at), at); });
  }
  return order;
}

void add_candidates(Explanation& explanation, const Policy& policy, const ScoreInput& input,
                    std::span<const TargetId> targets, std::span<const double> given) {
  const Policy& decider = policy.decider(input);
  const bool is_given = !given.empty();
  std::vector<double> costs(given.begin(), given.end());
  if (!is_given) {
    costs.resize(input.candidates.size());
    decider.score(input, costs);
  }
  const bool has_cost = is_given || decider.has_cost();
  explanation.rule = is_given ? kGivenRule : decider.name();
  for (const std::size_t position : by_cost(costs, has_cost)) {
    const Slot slot = input.candidates[position];
    TargetExplanation& target = explanation.targets.emplace_back();
    target.target = targets[slot];
    target.cached_tokens = input.cached_tokens(slot);
    if (!is_given) target.terms = decider.terms(input, slot);
    if (has_cost) target.cost = costs[position];
  }
}

}  // namespace

Explanation explanation_of(const Policy& policy, const ScoreInput& input,
                           std::span<const std::pair<Slot, Exclusion>> excluded,
                           std::span<const TargetId> targets, std::span<const double> given) {
  Explanation explanation{
      .policy = policy.name(), .rule = {}, .num_tokens = input.num_tokens, .targets = {}};
  if (!input.candidates.empty()) add_candidates(explanation, policy, input, targets, given);
  std::vector<std::pair<Slot, Exclusion>> others(excluded.begin(), excluded.end());
  std::ranges::sort(others);
  for (const auto& [slot, why] : others) {
    TargetExplanation& target = explanation.targets.emplace_back();
    target.target = targets[slot];
    target.eligible = false;
    target.reason = reason_of(why);
    target.cached_tokens = input.cached_tokens(slot);
  }
  return explanation;
}

}  // namespace kvroute::detail
