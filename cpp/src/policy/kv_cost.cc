#include "kvroute/policy/kv_cost.h"

#include <algorithm>
#include <cmath>

#include "policy/prediction.h"
#include "policy/spec_reader.h"

namespace kvroute {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Tokens that only the tiers from `from` (without) to `to` (with) have.
double tokens_between(const ScoreInput& input, Slot slot, Tier from, Tier to) noexcept {
  const std::uint64_t nearer = input.cached_tokens(slot, from);
  return static_cast<double>(std::max(input.cached_tokens(slot, to), nearer) - nearer);
}

double liking(const ScoreInput& input, Slot slot) noexcept {
  const double weight = input.preferences.empty() ? 0 : input.preferences[slot];
  return weight == 0 ? 1 : std::exp(-std::tanh(weight));
}

}  // namespace

// What all candidates have in common.
struct KvCost::Shared {
  explicit Shared(const ScoreInput& input) noexcept
      : full_blocks(input), per_token(1 / static_cast<double>(input.block_size)) {}

  [[nodiscard]] double decay(std::uint64_t prefill_tokens) const noexcept {
    return 1 / (1 + per_excess * static_cast<double>(prefill_tokens - least_prefill));
  }

  detail::FullBlocks full_blocks;
  double per_token;  // blocks of the router's size
  double overlap_credit = 0;
  double prefill_scale = 0;
  bool track_prefill = true;
  bool assume_reuse = true;
  bool credits_decode = false;
  double per_excess = 0;  // of the credit's decay, for each token of a backlog above the least
  std::uint64_t least_prefill = 0;
  bool any_idle = true;  // not busy
};

struct KvCost::Parts {
  double raw_prefill = 0;
  double decay = 1;
  double credit = 0;
  double prefill = 0;
  double decode = 0;
  double requests = 0;
  double liking = 1;
  [[nodiscard]] double cost() const noexcept { return (prefill + decode + requests) * liking; }
};

std::unique_ptr<Policy> KvCost::from(detail::SpecReader& reader) {
  const KvCostWeights absent;
  return std::make_unique<KvCost>(
      KvCostWeights{
          .overlap_credit = reader.number("overlap_credit", absent.overlap_credit, 0, 1),
          .overlap_credit_decay =
              reader.number("overlap_credit_decay", absent.overlap_credit_decay, 0, 1e6),
          .prefill_scale = reader.number("prefill_scale", absent.prefill_scale, 0, 1e6),
          .request_weight = reader.number("request_weight", absent.request_weight, 0, 1e6),
          .host_weight = reader.number("host_weight", absent.host_weight, 0, 1),
          .disk_weight = reader.number("disk_weight", absent.disk_weight, 0, 1),
          .external_weight = reader.number("external_weight", absent.external_weight, 0, 1),
          .assume_kv_reuse = reader.flag("assume_kv_reuse", absent.assume_kv_reuse),
          .track_prefill_tokens = reader.flag("track_prefill_tokens", absent.track_prefill_tokens),
          .decode_role = reader.flag("decode_role", absent.decode_role),
          .active_decode_blocks_threshold =
              reader.number("active_decode_blocks_threshold", absent.active_decode_blocks_threshold,
                            0, kInfinity),
          .active_prefill_tokens_threshold =
              reader.number("active_prefill_tokens_threshold",
                            absent.active_prefill_tokens_threshold, 0, kInfinity)},
      reader.pick_rule());
}

bool KvCost::is_busy(const ScoreInput& input, Slot slot) const noexcept {
  const TargetLoad& load = input.loads[slot];
  const std::uint64_t total = input.total_blocks[slot];
  return static_cast<double>(load.prefill_tokens) > weights_.active_prefill_tokens_threshold ||
         (total > 0 && static_cast<double>(load.active_blocks()) >
                           weights_.active_decode_blocks_threshold * static_cast<double>(total));
}

KvCost::Shared KvCost::shared(const ScoreInput& input) const noexcept {
  Shared shared(input);
  shared.overlap_credit = input.overrides.overlap_credit.value_or(weights_.overlap_credit);
  shared.prefill_scale = input.overrides.prefill_scale.value_or(weights_.prefill_scale);
  shared.track_prefill =
      input.overrides.track_prefill_tokens.value_or(weights_.track_prefill_tokens);
  shared.assume_reuse = input.overrides.assume_kv_reuse.value_or(weights_.assume_kv_reuse);
  shared.credits_decode =
      weights_.decode_role && !shared.track_prefill && shared.overlap_credit > 0;
  if (weights_.overlap_credit_decay > 0 && shared.track_prefill) {
    const std::uint64_t blocks = (input.num_tokens - 1) / input.block_size + 1;
    shared.per_excess =
        weights_.overlap_credit_decay * shared.per_token / static_cast<double>(blocks);
    shared.least_prefill = std::numeric_limits<std::uint64_t>::max();
    for (const Slot slot : input.candidates) {
      shared.least_prefill = std::min(shared.least_prefill, input.loads[slot].prefill_tokens);
    }
  }
  if (std::min(weights_.active_decode_blocks_threshold, weights_.active_prefill_tokens_threshold) <
      kInfinity) {
    shared.any_idle =
        std::ranges::any_of(input.candidates, [&](Slot slot) { return !is_busy(input, slot); });
  }
  return shared;
}

KvCost::Parts KvCost::parts(const ScoreInput& input, const Shared& shared,
                            Slot slot) const noexcept {
  const TargetLoad& load = input.loads[slot];
  const auto tokens = static_cast<double>(input.num_tokens);

  Parts parts;
  if (shared.track_prefill) {
    parts.raw_prefill = (static_cast<double>(load.prefill_tokens) + tokens) * shared.per_token;
    if (shared.per_excess > 0) parts.decay = shared.decay(load.prefill_tokens);
  }
  const double device = static_cast<double>(input.cached_tokens(slot)) * shared.per_token;
  parts.credit = shared.overlap_credit * parts.decay * device;
  if (!input.depths[index_of(Tier::device)].empty()) {
    parts.credit +=
        (weights_.host_weight * tokens_between(input, slot, Tier::device, Tier::host) +
         weights_.disk_weight * tokens_between(input, slot, Tier::host, Tier::disk) +
         weights_.external_weight * tokens_between(input, slot, Tier::disk, Tier::external)) *
        shared.per_token;
  }
  parts.prefill = shared.prefill_scale * std::max(0.0, parts.raw_prefill - parts.credit);

  const std::uint64_t added =
      shared.assume_reuse ? shared.full_blocks.added(slot) : shared.full_blocks(slot);
  parts.decode = static_cast<double>(load.active_blocks() + added) *
                 (static_cast<double>(input.block_sizes[slot]) * shared.per_token);
  if (shared.credits_decode) parts.decode = std::max(0.0, parts.decode - parts.credit);
  parts.requests = weights_.request_weight * static_cast<double>(load.requests);
  parts.liking = liking(input, slot);
  return parts;
}

void KvCost::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const Shared common = shared(input);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    const Slot slot = input.candidates[i];
    costs[i] =
        common.any_idle && is_busy(input, slot) ? kInfinity : parts(input, common, slot).cost();
  }
}

std::vector<CostTerm> KvCost::terms(const ScoreInput& input, Slot slot) const {
  const Parts p = parts(input, shared(input), slot);
  const TargetLoad& load = input.loads[slot];
  const auto unit = static_cast<double>(input.block_size);
  const auto blocks = [&](Tier from, Tier to) {
    return tokens_between(input, slot, from, to) / unit;
  };
  return {{"prefill_cost", p.prefill},
          {"decode_cost", p.decode},
          {"request_cost", p.requests},
          {"liking", p.liking},
          {"busy", is_busy(input, slot) ? 1.0 : 0.0},
          {"raw_prefill_blocks", p.raw_prefill},
          {"credit_blocks", p.credit},
          {"credit_decay", p.decay},
          {"cached_blocks", static_cast<double>(input.cached_tokens(slot)) / unit},
          {"host_blocks", blocks(Tier::device, Tier::host)},
          {"disk_blocks", blocks(Tier::host, Tier::disk)},
          {"external_blocks", blocks(Tier::disk, Tier::external)},
          {"active_prefill_tokens", static_cast<double>(load.prefill_tokens)},
          {"active_blocks", static_cast<double>(load.active_blocks())},
          {"shared_active_blocks", static_cast<double>(input.active[slot])},
          {"active_requests", static_cast<double>(load.requests)}};
}

}  // namespace kvroute
