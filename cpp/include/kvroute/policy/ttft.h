#pragma once

#include "kvroute/policy/policy.h"

namespace kvroute {

/// The least predicted time to first token, in seconds: the wait for those before, then the prefill
/// of what the device does not hold (Mooncake's Conductor: Qin et al., "Mooncake: A KVCache-centric
/// Disaggregated Architecture for LLM Serving", 2024, algorithm 1):
///
///     cost = max(0, s * backlog_seconds - min(now - head_started, s * head_seconds))
///          + s * prefill(L, c)
///
/// for L prompt tokens of which c are on the device; `prefill` is `FleetLoad::prefill`, s the
/// target's measured by predicted prefill time (the fleet's before the first measurement, else 1;
/// held in [1/8, 8]), which serves engines of unequal speed. Of a target's own and the fleet's, its
/// own weighs min(1, n/32) for n measured first tokens, and less when the last of them is long ago
/// (`FleetLoad::freshness`).
///
/// Predictions err: costs within 5 % and 1 ms of the least count as equal. Of those, the target
/// that was chosen least of late decides (`TargetLoad::recent_requests`, for a new target by its
/// rate), then the one with the fewest tokens in use, then chance, evenly. Else, of equal engines
/// the one that chance measured slower would not be chosen, nor measured, again.
///
/// Where it differs: Mooncake's queue does not drain between two completions, and its prefill times
/// are an offline fit; it may also move a prefix between nodes, or refuse a request.
class Ttft final : public Policy {
 public:
  explicit Ttft(PickRule rule = {}) : Policy(rule) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "ttft"; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;
  [[nodiscard]] std::size_t pick(const ScoreInput& input, std::span<const double> costs,
                                 PickState& state) const noexcept override;
};

/// New tokens times batch (Zhang et al., "LMetric: Simple is Better - Multiplication May Be All You
/// Need for LLM Request Scheduling", 2026; llm-d-router, lmetric-scorer):
///
///     cost = max(1, uncached tokens) * (requests + 1)
///
/// A product needs no weight between cache and load: it cancels in a comparison. `requests` is this
/// router's own bookings, with this request. An engine computes at least one token, so that a whole
/// hit does not make every queue the same (in the paper it does).
class LMetric final : public Policy {
 public:
  explicit LMetric(PickRule rule = {}) : Policy(rule) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "lmetric"; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;
};

}  // namespace kvroute
