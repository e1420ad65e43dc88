#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvroute/policy/policy.h"
#include "score_input_builder.h"

namespace kvroute {

/// The slot that a policy takes, as a router asks it.
inline Slot chosen(const Policy& policy, const ScoreInputBuilder& builder, PickState& state) {
  const ScoreInput input = builder.input();
  const Policy& decider = policy.decider(input);
  std::vector<double> costs(input.candidates.size());
  decider.score(input, costs);
  return input.candidates[decider.pick(input, costs, state)];
}

/// How often each slot is taken in `times` decisions on the same input.
inline std::vector<int> times_chosen(const Policy& policy, const ScoreInputBuilder& builder,
                                     int times, std::uint64_t seed = 7) {
  PickState state(seed);
  std::vector<int> counts(builder.loads.size());
  for (int i = 0; i < times; ++i) ++counts[chosen(policy, builder, state)];
  return counts;
}

/// Name of the policy that decides on this input.
inline std::string decider_of(const Policy& policy, const ScoreInputBuilder& builder) {
  return std::string(policy.decider(builder.input()).name());
}

/// Message of the error that making the policy ends in; empty: none.
inline std::string refusal_of(const PolicySpec& spec) {
  try {
    (void)make_policy(spec);
  } catch (const std::exception& error) {
    return error.what();
  }
  return {};
}

}  // namespace kvroute
