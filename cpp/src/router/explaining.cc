#include "router/explaining.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "router/ranking.h"

namespace kvroute::detail {
namespace {

void add_candidates(Explanation& explanation, const Policy& policy, const ScoreInput& input,
                    std::span<const TargetId> targets, std::span<const double> given) {
  const Policy& decider = policy.decider(input);
  const bool is_given = !given.empty();
  std::vector<double> costs(given.begin(), given.end());
  if (!is_given && decider.has_cost()) {
    costs.resize(input.candidates.size());
    decider.score(input, costs);
  }
  explanation.rule = is_given ? kGivenRule : decider.name();
  for (const std::size_t position : best_first(input, costs, input.candidates.size())) {
    const Slot slot = input.candidates[position];
    TargetExplanation& target = explanation.targets.emplace_back();
    target.target = targets[slot];
    target.cached_tokens = input.cached_tokens(slot);
    if (!is_given) target.terms = decider.terms(input, slot);
    if (!costs.empty()) target.cost = costs[position];
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
