#pragma once

#include "kvroute/policy/policy.h"

namespace kvroute {

/// Parameters of `LeastLoad`; the defaults are SMG's, but for `throughput`.
struct LeastLoadOptions {
  double kv_pressure_weight = 0.15;    ///< seconds
  double mean_prefill_tokens = 1'024;  ///< of a request that only the engine speaks of
  double throughput = 0;               ///< tokens a second that leave a queue; 0: as measured
};

/// The least time to work off the queue, plus a barrier before a full KV cache (SMG's `least_load`,
/// model_gateway/src/policies/least_load.rs, 2026), in seconds:
///
///     cost  = queued/throughput + kv_pressure_weight * k/(1 - k)
///     queued = max(prefill_tokens, waiting * mean_prefill_tokens)
///
/// `prefill_tokens` is this router's bookings without a first token, exact and never stale;
/// `waiting` the engine's report, which knows of others' requests too, and what was sent since; of
/// a silent engine as `Standalone` has it. k is the KV usage that the engine reports, else the mean
/// of the other candidates'; where nobody reports it, the share of its blocks that bookings use
/// where their number is known, else the mean again; at most 0.999. The prompt is not looked at.
///
/// Where it differs: SMG divides by the generation rate that the engine reports, or 2,000 tokens a
/// second, where we divide by the prefill rate that is predicted and measured per target; and gives
/// one without a report its best peer's cost plus its own requests.
class LeastLoad final : public Policy {
 public:
  explicit LeastLoad(LeastLoadOptions options = {}, PickRule rule = {})
      : Policy(rule), options_(options) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "least_load"; }
  [[nodiscard]] bool needs_overlap() const noexcept override { return false; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  struct Shared;
  struct Parts;
  [[nodiscard]] Parts parts(const ScoreInput& input, const Shared& shared,
                            Slot slot) const noexcept;

  LeastLoadOptions options_;
};

}  // namespace kvroute
