#pragma once

#include <span>
#include <utility>

#include "kvroute/policy/filters.h"
#include "kvroute/policy/policy.h"
#include "kvroute/router/selection.h"

namespace kvroute::detail {

/// Every candidate's terms by the policy that decides this input, in the order of `best_first`, and
/// then who was excluded. `targets` by slot. `given`: costs of the candidates from elsewhere than
/// the policy, under the name `rule`; empty: the policy's own.
[[nodiscard]] Explanation explanation_of(const Policy& policy, const ScoreInput& input,
                                         std::span<const std::pair<Slot, Exclusion>> excluded,
                                         std::span<const TargetId> targets,
                                         std::span<const double> given = {});

}  // namespace kvroute::detail
