#include "kvroute/policy/least_requests.h"

#include "policy/costs_of.h"
#include "policy/prediction.h"
#include "policy/spec_reader.h"
#include "policy/ties.h"

namespace kvroute {

std::unique_ptr<Policy> LeastRequests::from(detail::SpecReader& reader) {
  return std::make_unique<LeastRequests>(reader.pick_rule());
}

void LeastRequests::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = input.loads[input.candidates[i]].requests;
  }
}

std::vector<CostTerm> LeastRequests::terms(const ScoreInput& input, Slot slot) const {
  return {{"requests", static_cast<double>(input.loads[slot].requests)},
          {"tokens_in_use", static_cast<double>(detail::tokens_in_use(input, slot))}};
}

std::size_t LeastRequests::pick(const ScoreInput& input, std::span<const double> costs,
                                PickState& state) const noexcept {
  if (!detail::takes_the_least(rule(), input)) return Policy::pick(input, costs, state);
  return detail::pick_least_then(costs, state.random, detail::TokensInUse{input});
}

std::unique_ptr<Policy> PowerOfTwo::from(detail::SpecReader& reader) {
  auto of = detail::policy_with_costs(reader, "of", "least_requests");
  return std::make_unique<PowerOfTwo>(std::move(of),
                                      reader.pick_rule({.temperature = 0, .sample = 2}));
}

void PowerOfTwo::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  detail::costs_of(*of_, input, costs);
}

std::vector<CostTerm> PowerOfTwo::terms(const ScoreInput& input, Slot slot) const {
  return of_->decider(input).terms(input, slot);
}

}  // namespace kvroute
