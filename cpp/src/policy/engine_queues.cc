#include "kvroute/policy/engine_queues.h"

namespace kvroute {

EngineQueues::EngineQueues(const ScoreInput& input, StatsMissing missing) noexcept
    : loads_(input.loads),
      oldest_(input.now - seconds_to_ns(input.report_lifetime_seconds)),
      zero_(missing == StatsMissing::zero) {
  for (const Slot slot : input.candidates) {
    const TargetLoad& load = loads_[slot];
    running_ = load.reported.running && load.reported_times.running >= oldest_;
    if (running_) return;
  }
}

}  // namespace kvroute
