#pragma once

#include "kvroute/policy/policy.h"

namespace kvroute {

/// Weights of `KvCost`; the defaults are Dynamo's.
struct KvCostWeights {
  double overlap_credit = 1.0;        ///< blocks forgiven per cached block, 0 to 1
  double overlap_credit_decay = 0.0;  ///< how fast a backlog above the least one eats the credit
  double prefill_scale = 1.0;         ///< weight of a block to prefill against one to decode
  double request_weight = 0.0;        ///< cost of each active request
};

/// Dynamo's current cost (lib/kv-router, scheduling/selector, v1.6), in blocks:
///
///     cost = prefill_scale * max(0, (prefill_tokens + num_tokens)/block_size - credit * cached)
///          + decode + request_weight * requests
///     decode = active_blocks + request's blocks that are not active there
///     credit = overlap_credit
///            / (1 + decay * ((prefill_tokens - least prefill_tokens)/block_size) / request blocks)
///
/// `prefill_tokens`, `active_blocks` and `requests` are this router's own bookings. Engine reports
/// are not used. The unit is the router's block; a target of another block size is converted.
class KvCost final : public Policy {
 public:
  explicit KvCost(KvCostWeights weights = {}, PickRule rule = {})
      : Policy(rule), weights_(weights) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "kv_cost"; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  struct Parts {
    double raw_prefill = 0;
    double credit = 0;
    double prefill = 0;
    double decode = 0;
    double requests = 0;
    [[nodiscard]] double cost() const noexcept { return prefill + decode + requests; }
  };

  [[nodiscard]] Parts parts(const ScoreInput& input, Slot slot,
                            std::uint64_t least_prefill) const noexcept;
  [[nodiscard]] std::uint64_t least_prefill(const ScoreInput& input) const noexcept;

  KvCostWeights weights_;
};

}  // namespace kvroute
