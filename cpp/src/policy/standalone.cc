#include "kvroute/policy/standalone.h"

#include <algorithm>

namespace kvroute {
namespace {

double waiting(const TargetLoad& load) noexcept {
  return static_cast<double>(load.reported.waiting.value_or(0)) + static_cast<double>(load.picks);
}

double most_waiting(const ScoreInput& input) noexcept {
  double most = 0;
  for (const Slot slot : input.candidates) most = std::max(most, waiting(input.loads[slot]));
  return most;
}

struct Parts {
  double overlap;
  double usage;
  double queue;
  [[nodiscard]] double cost() const noexcept { return -(2 * overlap - usage - queue); }
};

Parts parts(const ScoreInput& input, Slot slot, double most) noexcept {
  const TargetLoad& load = input.loads[slot];
  return {static_cast<double>(input.cached_tokens(slot)) / static_cast<double>(input.num_tokens),
          load.reported.kv_usage.value_or(0.0), most > 0 ? waiting(load) / most : 0.0};
}

}  // namespace

void Standalone::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const double most = most_waiting(input);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = parts(input, input.candidates[i], most).cost();
  }
}

std::vector<CostTerm> Standalone::terms(const ScoreInput& input, Slot slot) const {
  const Parts p = parts(input, slot, most_waiting(input));
  return {{"logit", -p.cost()},
          {"overlap", p.overlap},
          {"kv_usage", p.usage},
          {"normalized_waiting", p.queue},
          {"waiting", waiting(input.loads[slot])}};
}

}  // namespace kvroute
