#include "kvroute/policy/uninformed.h"

namespace kvroute {

std::unique_ptr<Policy> RoundRobin::from(detail::SpecReader& /*reader*/) {
  return std::make_unique<RoundRobin>();
}

// The candidate whose turn comes soonest after the last chosen one's, going round. Where that one
// is gone, those after it have moved up into its place.
std::size_t RoundRobin::pick(const ScoreInput& input, std::span<const double> /*costs*/,
                             PickState& state) const noexcept {
  const auto turn = [&](Slot slot) { return input.turns.empty() ? slot : input.turns[slot]; };
  const auto identity = [&](Slot slot) { return input.identities[slot]; };
  const std::optional<PickState::Turn> last = state.last_in_turn(*this);
  std::uint32_t first = 0;
  if (last) first = identity(last->slot) == last->identity ? turn(last->slot) + 1 : last->place;
  std::size_t next = 0;
  for (std::size_t i = 1; i < input.candidates.size(); ++i) {
    // Unsigned differences: turns before `first` come after all others.
    if (turn(input.candidates[i]) - first < turn(input.candidates[next]) - first) next = i;
  }
  const Slot slot = input.candidates[next];
  state.set_last_in_turn(*this, {.slot = slot, .identity = identity(slot), .place = turn(slot)});
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
