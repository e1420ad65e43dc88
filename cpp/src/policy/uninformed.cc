#include "kvroute/policy/uninformed.h"

#include <algorithm>

namespace kvroute {

std::size_t RoundRobin::pick(const ScoreInput& input, std::span<const double> /*costs*/,
                             PickState& state) const noexcept {
  const auto first = input.candidates.begin();
  auto next = first;
  if (state.last_in_turn) {
    next = std::upper_bound(first, input.candidates.end(), *state.last_in_turn);
    if (next == input.candidates.end()) next = first;
  }
  state.last_in_turn = *next;
  return static_cast<std::size_t>(next - first);
}

std::size_t RandomChoice::pick(const ScoreInput& input, std::span<const double> /*costs*/,
                               PickState& state) const noexcept {
  return static_cast<std::size_t>(state.random.below(input.candidates.size()));
}

}  // namespace kvroute
