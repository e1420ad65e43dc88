#include "kvroute/policy/ttft.h"

#include <algorithm>

#include "policy/prediction.h"
#include "policy/spec_reader.h"
#include "policy/ties.h"

namespace kvroute {

std::unique_ptr<Policy> Ttft::from(detail::SpecReader& reader) {
  return std::make_unique<Ttft>(reader.pick_rule());
}

void Ttft::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const detail::PrefillScales scales(input);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = detail::time_to_first_token(input, input.candidates[i], scales);
  }
}

std::size_t Ttft::pick(const ScoreInput& input, std::span<const double> costs,
                       PickState& state) const noexcept {
  if (!detail::takes_the_least(rule(), input)) return Policy::pick(input, costs, state);
  return detail::pick_nearly_least(input, costs, state.random);
}

std::vector<CostTerm> Ttft::terms(const ScoreInput& input, Slot slot) const {
  const TargetLoad& load = input.loads[slot];
  const double scale = detail::PrefillScales(input)(slot);
  return {{"queue_seconds", detail::backlog_left(load, input.now, scale)},
          {"prefill_seconds",
           scale * input.fleet->prefill.seconds(input.num_tokens, input.cached_tokens(slot))},
          {"cached_tokens", static_cast<double>(input.cached_tokens(slot))},
          {"prefill_scale", scale},
          {"booked_seconds", load.backlog_seconds},
          {"head_seconds", load.head_seconds}};
}

std::unique_ptr<Policy> LMetric::from(detail::SpecReader& reader) {
  return std::make_unique<LMetric>(reader.pick_rule());
}

void LMetric::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    const Slot slot = input.candidates[i];
    const std::uint64_t tokens = std::max<std::uint64_t>(1, input.uncached_tokens(slot));
    costs[i] = static_cast<double>(tokens) * (input.loads[slot].requests + 1.0);
  }
}

std::vector<CostTerm> LMetric::terms(const ScoreInput& input, Slot slot) const {
  return {{"uncached_tokens", static_cast<double>(input.uncached_tokens(slot))},
          {"batch", input.loads[slot].requests + 1.0}};
}

}  // namespace kvroute
