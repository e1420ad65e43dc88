#pragma once

#include <limits>

#include "kvroute/policy/policy.h"

namespace kvroute {

/// Parameters of `KvCost`; the defaults are Dynamo's.
struct KvCostWeights {
  double overlap_credit = 1.0;        ///< blocks forgiven per cached block, 0 to 1
  double overlap_credit_decay = 0.0;  ///< how fast a backlog above the least one eats the credit
  double prefill_scale = 1.0;         ///< weight of a block to prefill against one to decode
  double request_weight = 0.0;        ///< cost of each active request
  double host_weight = 0.75;          ///< blocks forgiven per block that only its host memory has
  double disk_weight = 0.25;          ///< ... that only its disk has
  double external_weight = 0.0;       ///< ... that only a store outside has
  bool assume_kv_reuse = true;        ///< false: no block of the request is shared with others
  bool track_prefill_tokens = true;   ///< false: prefill costs nothing
  bool decode_role = false;           ///< decodes what others have prefilled

  // A target above either is busy. Infinity: never.
  double active_decode_blocks_threshold =
      std::numeric_limits<double>::infinity();  ///< share of its total blocks
  double active_prefill_tokens_threshold = std::numeric_limits<double>::infinity();
};

/// Dynamo's current cost (lib/kv-router, scheduling/selector, v1.6), in blocks:
///
///     cost    = (prefill_scale * prefill + decode + request_weight * requests) * liking
///     prefill = max(0, (prefill_tokens + num_tokens)/block_size - credit)
///     credit  = overlap_credit * decay * device
///             + host_weight * host + disk_weight * disk + external_weight * external
///     decay   = 1 / (1 + overlap_credit_decay
///                        * ((prefill_tokens - least prefill_tokens)/block_size) / request blocks)
///     decode  = active_blocks + the request's blocks that are not active there
///     liking  = exp(-tanh(sum of the weights of preferred labels that match)), 0.37 to 2.72
///
/// `device`, `host`, `disk` and `external` are cached blocks, each counted in the nearest tier that
/// has it; the request's blocks are num_tokens/block_size, rounded up for the decay and down for
/// decode. Without `track_prefill_tokens`, prefill is 0 and does not decay the credit; then, with
/// `decode_role` and an `overlap_credit` above 0, decode is max(0, decode - credit) instead.
/// Without `assume_kv_reuse` all of the request's blocks count as not active. A request may
/// override `overlap_credit`, `prefill_scale`, `assume_kv_reuse`, `track_prefill_tokens` and the
/// temperature.
///
/// A busy target costs infinitely much as long as another one is not busy: more than
/// `active_decode_blocks_threshold` of its blocks are active (where `total_blocks` is known), or
/// more than `active_prefill_tokens_threshold` tokens wait for their prefill.
///
/// `prefill_tokens`, `active_blocks` and `requests` are this router's own bookings. Engine reports
/// are not used. The unit is the router's block; a target of another block size is converted.
///
/// Where it differs from Dynamo: if all are busy the costs decide, where Dynamo refuses the request
/// (503), and a rank is busy by itself, where Dynamo asks all ranks of a worker; a block that the
/// device lacks and several lower tiers hold counts once, for the nearest, where Dynamo adds its
/// shared cache's; a request without reuse, or whose prefill is not tracked, is booked like any
/// other: its blocks are shared with later requests, and its prefill counts for them.
class KvCost final : public Policy {
 public:
  explicit KvCost(KvCostWeights weights = {}, PickRule rule = {})
      : Policy(rule), weights_(weights) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "kv_cost"; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  struct Shared;
  struct Parts;

  [[nodiscard]] Shared shared(const ScoreInput& input) const noexcept;
  [[nodiscard]] Parts parts(const ScoreInput& input, const Shared& shared,
                            Slot slot) const noexcept;
  [[nodiscard]] bool is_busy(const ScoreInput& input, Slot slot) const noexcept;

  KvCostWeights weights_;
};

}  // namespace kvroute
