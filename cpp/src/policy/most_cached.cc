#include "kvroute/policy/most_cached.h"

namespace kvroute {

void MostCached::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = static_cast<double>(input.uncached_tokens(input.candidates[i]));
  }
}

std::vector<CostTerm> MostCached::terms(const ScoreInput& input, Slot slot) const {
  return {{"uncached_tokens", static_cast<double>(input.uncached_tokens(slot))}};
}

}  // namespace kvroute
