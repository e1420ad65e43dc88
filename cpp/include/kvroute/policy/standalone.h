#pragma once

#include "kvroute/policy/policy.h"

namespace kvroute {

/// The rule of Dynamo's example `router_standalone`; its logit is negated, so that lower is better:
///
///     logit = 2 * cached_tokens/num_tokens - kv_usage - waiting/max_waiting
///
/// `waiting` is the engine's last report plus `TargetLoad::unreported`, what was chosen since then
/// and has had no first token; `max_waiting` is the greatest of the candidates; with a maximum of 0
/// the last term is 0. `kv_usage` is the engine's last report. A report counts for 60 seconds. A
/// usage that is older, or was never reported, counts as the mean of the candidates' that are
/// known; 0, as in the example, where none is. Ties at random.
///
/// Without a report of `waiting` a candidate counts as those who report, in proportion to what it
/// was sent of late, so that it gets its part of the requests:
///
///     max(floor(mean of theirs * (sent + 1)/(mean of their sent + 1)), unbegun)
///
/// `unbegun` are its bookings without a first token; where nobody reports, they alone count.
/// `sent` is `TargetLoad::recent_requests`, divided for a target of t seconds by
/// 1 - exp(-t/recent_time_constant).
class Standalone final : public Policy {
 public:
  explicit Standalone(PickRule rule = {}) : Policy(rule) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);
  [[nodiscard]] std::string_view name() const noexcept override { return "standalone"; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;
};

}  // namespace kvroute
