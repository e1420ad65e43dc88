#pragma once

#include <cstdint>
#include <memory>

#include "kvroute/policy/policy.h"

namespace kvroute {

/// When a gate is open. Every condition is a pure function of the input; figures that are not known
/// are left out, and where none is known the gate is closed.
struct GateCondition {
  enum class When : std::uint8_t {
    imbalanced,     ///< greatest - least load of the candidates >= threshold
    overlap_below,  ///< share of the prompt cached on the device of who has the most < threshold
    overloaded,     ///< greatest `kv_usage` of the candidates > threshold
    no_session,     ///< the request has no session id
  };
  enum class Load : std::uint8_t {
    queue,           ///< requests that the engine runs or has queued: see EngineQueues
    requests,        ///< this router's bookings that have not ended
    prefill_tokens,  ///< uncached prompt tokens of bookings without a first token
    kv_usage,        ///< share of KV blocks in use, as the engine reports it
  };

  When when = When::imbalanced;
  double threshold = 0;   ///< in the unit of what is compared
  Load of = Load::queue;  ///< what may be imbalanced

  [[nodiscard]] bool holds(const ScoreInput& input) const noexcept;
};

/// One of two policies, by a condition on the request and its candidates:
///
///     {"name": "gate", "when": "imbalanced", "of": "requests", "threshold": 8,
///      "then": "least_loaded", "otherwise": "kvaware"}
///
/// `when` is one of GateCondition::When, by default `imbalanced`; `of` one of GateCondition::Load,
/// by default `queue`, for `imbalanced` alone. `threshold` is at least 0: for `imbalanced` infinite
/// by default, so that the gate stays closed; for `overlap_below` and `overloaded` it is a share,
/// at most 1, and must be given; `no_session` has none. `then` decides where the condition holds,
/// by default `least_loaded`; `otherwise` where not, by default `kv_cost`. Gates may hold gates.
class Gate final : public Policy {
 public:
  Gate(GateCondition condition, std::unique_ptr<Policy> then, std::unique_ptr<Policy> otherwise);
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "gate"; }
  [[nodiscard]] const Policy& decider(const ScoreInput& input) const noexcept override;
  [[nodiscard]] bool needs_overlap() const noexcept override;
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  GateCondition condition_;
  std::unique_ptr<Policy> then_;
  std::unique_ptr<Policy> otherwise_;
};

}  // namespace kvroute
