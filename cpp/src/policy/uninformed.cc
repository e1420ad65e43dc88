#include "kvroute/policy/uninformed.h"

#include <utility>

namespace kvroute {

std::unique_ptr<Policy> RoundRobin::from(detail::SpecReader& /*reader*/) {
  return std::make_unique<RoundRobin>();
}

std::size_t RoundRobin::pick(const ScoreInput& input, std::span<const double> /*costs*/,
                             PickState& state) const noexcept {
  Turns& turns = state.turns_of(*this);
  const auto wait = [&](Slot slot) {
    const std::uint32_t place = input.turns.empty() ? slot : input.turns[slot];
    return std::pair(turns.last(slot, input.identities[slot]), place);
  };
  std::size_t next = 0;
  auto longest = wait(input.candidates.front());
  for (std::size_t i = 1; i < input.candidates.size(); ++i) {
    const auto own = wait(input.candidates[i]);
    if (own >= longest) continue;
    longest = own;
    next = i;
  }
  const Slot slot = input.candidates[next];
  turns.take(slot, input.identities[slot]);
  return next;
}

std::unique_ptr<Policy> RandomChoice::from(detail::SpecReader& /*reader*/) {
  return std::make_unique<RandomChoice>();
}

std::size_t RandomChoice::pick(const ScoreInput& input, std::span<const double> /*costs*/,
                               PickState& state) const noexcept {
  return static_cast<std::size_t>(state.random.below(input.candidates.size()));
}

}  // namespace kvroute
