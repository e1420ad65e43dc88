#pragma once

#include <algorithm>
#include <cstdint>

#include "kvroute/policy/score_input.h"

namespace kvroute::detail {

/// Leading tokens of the prompt on the candidate that has the most.
[[nodiscard]] inline std::uint64_t longest_match(const ScoreInput& input) noexcept {
  std::uint64_t longest = 0;
  for (const Slot slot : input.candidates) longest = std::max(longest, input.cached_tokens(slot));
  return longest;
}

}  // namespace kvroute::detail
