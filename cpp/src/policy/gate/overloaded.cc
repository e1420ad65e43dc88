#include <algorithm>
#include <optional>

#include "policy/gate/conditions.h"

namespace kvroute::detail {

bool overloaded(const ScoreInput& input, double threshold) noexcept {
  return std::ranges::any_of(input.candidates, [&](Slot slot) {
    const std::optional<double> usage = input.reported(slot).kv_usage;
    return usage && *usage > threshold;
  });
}

}  // namespace kvroute::detail
