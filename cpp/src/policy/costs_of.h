#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kvroute/base/error.h"
#include "policy/spec_reader.h"

namespace kvroute::detail {

/// The costs that `policy` gives, or whichever it defers to; zeros where that one has none.
inline void costs_of(const Policy& policy, const ScoreInput& input,
                     std::span<double> costs) noexcept {
  const Policy& decider = policy.decider(input);
  if (decider.has_cost()) {
    decider.score(input, costs);
  } else {
    std::ranges::fill(costs, 0.0);
  }
}

/// Reads parameter `name`, a policy that another one rests on. \throws InvalidArgument for one
/// without costs, such as `random`.
[[nodiscard]] inline std::unique_ptr<Policy> policy_with_costs(SpecReader& reader,
                                                               std::string_view name,
                                                               const PolicySpec& absent) {
  auto policy = reader.policy(name, absent);
  if (!policy->has_cost()) {
    throw InvalidArgument(reader.place_of(name) + ": expected a policy that has costs, got '" +
                          std::string(policy->name()) + "'");
  }
  return policy;
}

}  // namespace kvroute::detail
