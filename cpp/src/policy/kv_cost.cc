#include "kvroute/policy/kv_cost.h"

#include <algorithm>
#include <limits>

#include "policy/spec_reader.h"

namespace kvroute {

std::unique_ptr<Policy> KvCost::from(detail::SpecReader& reader) {
  const KvCostWeights absent;
  return std::make_unique<KvCost>(
      KvCostWeights{
          .overlap_credit = reader.number("overlap_credit", absent.overlap_credit, 0, 1),
          .overlap_credit_decay =
              reader.number("overlap_credit_decay", absent.overlap_credit_decay, 0, 1e6),
          .prefill_scale = reader.number("prefill_scale", absent.prefill_scale, 0, 1e6),
          .request_weight = reader.number("request_weight", absent.request_weight, 0, 1e6)},
      reader.pick_rule());
}

std::uint64_t KvCost::least_prefill(const ScoreInput& input) const noexcept {
  if (weights_.overlap_credit_decay <= 0) return 0;
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
  for (const Slot slot : input.candidates) {
    least = std::min(least, input.loads[slot].prefill_tokens);
  }
  return least;
}

KvCost::Parts KvCost::parts(const ScoreInput& input, Slot slot,
                            std::uint64_t least_prefill) const noexcept {
  const TargetLoad& load = input.loads[slot];
  const auto unit = static_cast<double>(input.block_size);
  const auto tokens = static_cast<double>(input.num_tokens);
  const double to_units = static_cast<double>(input.block_sizes[slot]) / unit;
  const double request_blocks = tokens / unit;

  Parts parts;
  parts.raw_prefill = (static_cast<double>(load.prefill_tokens) + tokens) / unit;
  parts.credit = weights_.overlap_credit;
  if (weights_.overlap_credit_decay > 0) {
    const double excess = static_cast<double>(load.prefill_tokens - least_prefill) / unit;
    parts.credit /= 1 + weights_.overlap_credit_decay * excess / request_blocks;
  }
  const double cached = static_cast<double>(input.cached_tokens(slot)) / unit;
  parts.prefill = weights_.prefill_scale * std::max(0.0, parts.raw_prefill - parts.credit * cached);

  const std::uint64_t full = input.num_tokens / input.block_sizes[slot];
  const std::uint64_t added = full - std::min<std::uint64_t>(full, input.active[slot]);
  parts.decode = static_cast<double>(load.active_blocks() + added) * to_units;
  parts.requests = weights_.request_weight * static_cast<double>(load.requests);
  return parts;
}

void KvCost::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const std::uint64_t least = least_prefill(input);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = parts(input, input.candidates[i], least).cost();
  }
}

std::vector<CostTerm> KvCost::terms(const ScoreInput& input, Slot slot) const {
  const Parts p = parts(input, slot, least_prefill(input));
  const TargetLoad& load = input.loads[slot];
  return {{"prefill_cost", p.prefill},
          {"decode_cost", p.decode},
          {"request_cost", p.requests},
          {"raw_prefill_blocks", p.raw_prefill},
          {"overlap_credit", p.credit},
          {"cached_blocks",
           static_cast<double>(input.cached_tokens(slot)) / static_cast<double>(input.block_size)},
          {"active_prefill_tokens", static_cast<double>(load.prefill_tokens)},
          {"active_blocks", static_cast<double>(load.active_blocks())},
          {"shared_active_blocks", static_cast<double>(input.active[slot])},
          {"active_requests", static_cast<double>(load.requests)}};
}

}  // namespace kvroute
