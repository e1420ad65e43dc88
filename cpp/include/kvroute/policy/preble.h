#pragma once

#include "kvroute/policy/policy.h"

namespace kvroute {

/// Parameters of `Preble`.
struct PrebleOptions {
  /// How likely a token that is evicted for a new one would have been used again, 0 to 1. Preble
  /// measures it for each node of its tree.
  double reuse = 0.1;
};

/// Preble's cost, and exploit or explore (Srivatsa et al., "Preble: Efficient Distributed Prompt
/// Scheduling for LLM Serving", ICLR 2025, E2), in seconds:
///
///     cost     = load + eviction + prefill
///     load     = s * window tokens/R + window requests * S
///     eviction = reuse * s * uncached tokens/R
///     prefill  = s * prefill(L, c)
///
///     best > L - best: only targets with `best` cached tokens are eligible, others cost infinitely
///     otherwise:       all are
///
/// for L prompt tokens of which c are on the device, `best` the most of any candidate. `window` is
/// what the target was chosen for in the last `FleetLoad::window_seconds` (Preble: three minutes),
/// tokens uncached; R and prefill are `FleetLoad::prefill`, S the fleet's mean time from first
/// token to end, s the target's measured by predicted prefill time as in `ttft`. The eviction takes
/// the memory as full, as Preble's own code does: each new token evicts one.
///
/// Where it differs: no later rebalancing and no replication of a hot prefix by itself.
class Preble final : public Policy {
 public:
  explicit Preble(PrebleOptions options = {}, PickRule rule = {})
      : Policy(rule), options_(options) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "preble"; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  struct Shared;
  struct Parts;
  [[nodiscard]] Parts parts(const ScoreInput& input, const Shared& shared,
                            Slot slot) const noexcept;

  PrebleOptions options_;
};

}  // namespace kvroute
