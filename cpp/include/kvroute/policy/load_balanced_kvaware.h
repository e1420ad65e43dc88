#pragma once

#include <limits>
#include <memory>

#include "kvroute/policy/kvaware.h"
#include "kvroute/policy/least_loaded.h"
#include "kvroute/policy/policy.h"

namespace kvroute {

/// vLLM production-stack's `load_balanced_kvaware` (#884), in three tiers:
///
///     1. greatest queue - least queue >= imbalanced_threshold: `least_loaded`
///     2. a hit: `kvaware`
///     3. no hit: `kvaware`'s fallback, by default `session`, which without a session id is `qps`
///
/// over all candidates of this request; so a retry without the failed one goes through all of them
/// again. The queue is that of `EngineQueues`, in requests. `imbalanced_threshold` is in requests
/// too, at least 0, by default infinite: then this is `kvaware`. 0 always balances.
///
/// Two things differ from #884, and both spread. A target without statistics is left out of
/// greatest and least and not chosen in tier 1; where nobody has them, tier 2 it is. (There it
/// reads as idle: it opens tier 1 and wins it. `stats_missing = "zero"` reads it so.) And ties are
/// taken at random.
///
/// The decider bears the tier's name: `least_loaded`, `kvaware`, `session` or `qps`.
class LoadBalancedKvAware final : public Policy {
 public:
  static constexpr double kNever = std::numeric_limits<double>::infinity();

  /// `missing` is `skip` or `zero`. Without a `kvaware`: one with the defaults.
  explicit LoadBalancedKvAware(double imbalanced_threshold = kNever,
                               StatsMissing missing = StatsMissing::skip,
                               std::unique_ptr<Policy> kvaware = nullptr, PickRule rule = {});
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "load_balanced_kvaware"; }
  [[nodiscard]] const Policy& decider(const ScoreInput& input) const noexcept override;
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  double imbalanced_threshold_;
  StatsMissing missing_;
  LeastLoaded least_loaded_;
  std::unique_ptr<Policy> kvaware_;
};

}  // namespace kvroute
