#include <optional>

#include "kvroute/policy/engine_queues.h"
#include "policy/gate/conditions.h"
#include "policy/spread.h"

namespace kvroute::detail {
namespace {

std::optional<double> spread(const ScoreInput& input, GateCondition::Load of) noexcept {
  using Load = GateCondition::Load;
  const auto by = [&](const auto& measure) { return spread_of(input, measure); };
  switch (of) {
    case Load::queue: {
      const EngineQueues queues(input, StatsMissing::skip);
      return by([&](Slot slot) { return queues.of(slot); });
    }
    case Load::requests:
      return by([&](Slot slot) -> std::optional<double> {
        return static_cast<double>(input.loads[slot].requests);
      });
    case Load::prefill_tokens:
      return by([&](Slot slot) -> std::optional<double> {
        return static_cast<double>(input.loads[slot].prefill_tokens);
      });
    case Load::kv_usage: return by([&](Slot slot) { return input.reported(slot).kv_usage; });
  }
  return std::nullopt;
}

}  // namespace

bool imbalanced(const ScoreInput& input, GateCondition::Load of, double threshold) noexcept {
  const std::optional<double> wide = spread(input, of);
  return wide && *wide >= threshold;
}

}  // namespace kvroute::detail
