#include "policy/pair_leg.h"

namespace kvroute::detail {

PairSeconds PairLeg::seconds(const ScoreInput& input, Slot slot) const noexcept {
  const PairInput pairs{.request = input, .prefill = {}, .decode = {}, .places = *places_};
  return half_ == Half::kPrefill ? costs_.of(pairs, slot, other_) : costs_.of(pairs, other_, slot);
}

void PairLeg::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = seconds(input, input.candidates[i]).total();
  }
}

std::vector<CostTerm> PairLeg::terms(const ScoreInput& input, Slot slot) const {
  const PairSeconds parts = seconds(input, slot);
  return {{"queue_seconds", parts.queue},
          {"prefill_seconds", parts.prefill},
          {"transfer_seconds", parts.transfer},
          {"decode_seconds", parts.decode},
          {"missing_tokens",
           static_cast<double>(input.uncached_tokens(half_ == Half::kPrefill ? other_ : slot))}};
}

}  // namespace kvroute::detail
