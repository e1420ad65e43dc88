#include "kvroute/policy/policy.h"

namespace kvroute {

const Policy& Policy::decider(const ScoreInput& /*input*/) const noexcept { return *this; }

std::size_t Policy::pick(const ScoreInput& input, std::span<const double> costs,
                         PickState& state) const noexcept {
  PickRule rule = rule_;
  rule.temperature = input.overrides.temperature.value_or(rule.temperature);
  return pick_by(rule, costs, state.random);
}

}  // namespace kvroute
