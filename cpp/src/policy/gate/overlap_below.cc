#include "policy/gate/conditions.h"
#include "policy/longest_match.h"

namespace kvroute::detail {

bool overlap_below(const ScoreInput& input, double threshold) noexcept {
  return static_cast<double>(longest_match(input)) / static_cast<double>(input.num_tokens) <
         threshold;
}

}  // namespace kvroute::detail
