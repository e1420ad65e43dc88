#pragma once

#include "kvroute/policy/gate.h"

namespace kvroute::detail {

// The conditions of GateCondition, one a file.

[[nodiscard]] bool imbalanced(const ScoreInput& input, GateCondition::Load of,
                              double threshold) noexcept;
[[nodiscard]] bool overlap_below(const ScoreInput& input, double threshold) noexcept;
[[nodiscard]] bool overloaded(const ScoreInput& input, double threshold) noexcept;
[[nodiscard]] bool no_session(const ScoreInput& input) noexcept;

}  // namespace kvroute::detail
