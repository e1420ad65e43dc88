#pragma once

#include "kvroute/policy/engine_queues.h"
#include "kvroute/policy/policy.h"
#include "kvroute/policy/uninformed.h"

namespace kvroute {

/// The shortest queue in the engines' own words (vLLM production-stack #890, `least_loaded`):
///
///     cost = running + waiting + unfinished               requests; see EngineQueues
///
/// Without statistics of some candidate, by `stats_missing`: `round_robin` (the default, as there)
/// takes all candidates in turn; `skip` leaves that one out, so that it is chosen only if nobody
/// has statistics, and then in turn; `zero` reads its statistics as zeros. Ties at random.
class LeastLoaded final : public Policy {
 public:
  explicit LeastLoaded(StatsMissing missing = StatsMissing::round_robin, PickRule rule = {})
      : Policy(rule), missing_(missing) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "least_loaded"; }
  [[nodiscard]] const Policy& decider(const ScoreInput& input) const noexcept override;
  [[nodiscard]] bool needs_overlap() const noexcept override { return false; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  StatsMissing missing_;
  RoundRobin in_turn_;
};

}  // namespace kvroute
