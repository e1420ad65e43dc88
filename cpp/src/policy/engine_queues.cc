#include "kvroute/policy/engine_queues.h"

namespace kvroute {

EngineQueues::EngineQueues(const ScoreInput& input, StatsMissing missing) noexcept
    : input_(input), zero_(missing == StatsMissing::zero) {
  for (const Slot slot : input.candidates) {
    if (input.reported(slot).running) {
      running_ = true;
      return;
    }
  }
}

bool EngineQueues::has_statistics(Slot slot) const noexcept {
  const EngineLoad reported = input_.reported(slot);
  return reported.waiting && (reported.running || !running_);
}

std::optional<double> EngineQueues::of(Slot slot) const noexcept {
  const EngineLoad reported = input_.reported(slot);
  const TargetLoad& load = input_.loads[slot];
  if (reported.waiting && (reported.running || !running_)) {
    return static_cast<double>(*reported.waiting) +
           static_cast<double>(reported.running.value_or(0)) + static_cast<double>(load.picks);
  }
  if (zero_) return static_cast<double>(load.requests);
  return std::nullopt;
}

}  // namespace kvroute
