#pragma once

#include <algorithm>
#include <concepts>
#include <optional>

#include "kvroute/policy/score_input.h"

namespace kvroute::detail {

/// Greatest less least of a measure over the candidates for which it is known; absent where none
/// is. `measure(slot)` gives a std::optional<double>.
template <std::invocable<Slot> Measure>
[[nodiscard]] std::optional<double> spread_of(const ScoreInput& input, const Measure& measure) {
  std::optional<double> least;
  double most = 0;
  for (const Slot slot : input.candidates) {
    const std::optional<double> value = measure(slot);
    if (!value) continue;
    most = least ? std::max(most, *value) : *value;
    least = least ? std::min(*least, *value) : *value;
  }
  if (!least) return std::nullopt;
  return most - *least;
}

}  // namespace kvroute::detail
