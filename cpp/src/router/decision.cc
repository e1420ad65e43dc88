#include "router/decision.h"

#include <algorithm>
#include <limits>
#include <string>

#include "kvroute/base/error.h"
#include "kvroute/hash/block_hash.h"

namespace kvroute::detail {
namespace {

void check(const RequestOverrides& overrides) {
  const auto in = [](std::optional<double> value, double most) {
    return !value || (*value >= 0 && *value <= most);  // not so: NaN
  };
  if (in(overrides.overlap_credit, 1) && in(overrides.prefill_scale, 1e6) &&
      in(overrides.temperature, 100)) {
    return;
  }
  throw InvalidArgument(
      "overrides: expected overlap_credit from 0 to 1, prefill_scale from 0 to 1e6, temperature "
      "from 0 to 100");
}

void check(const Request& request, std::uint32_t router_block_size) {
  check(request.overrides);
  if (request.alternatives > kMaxTargets) {
    throw InvalidArgument("alternatives: expected at most " + std::to_string(kMaxTargets) +
                          ", got " + std::to_string(request.alternatives));
  }
  if (!request.by_hashes) {
    if (!request.token_ids.empty()) return;
    throw InvalidArgument("token_ids: expected at least one token id, got none");
  }
  const std::uint64_t least =
      std::max<std::uint64_t>(request.local_hashes.size() * router_block_size, 1);
  if (request.num_tokens < least) {
    throw InvalidArgument("num_tokens: expected at least " + std::to_string(least) + " (" +
                          std::to_string(request.local_hashes.size()) + " local hashes of " +
                          std::to_string(router_block_size) + " tokens), got " +
                          std::to_string(request.num_tokens));
  }
}

}  // namespace

Decision& Decision::of_this_thread() {
  static thread_local Decision decision;
  return decision;
}

Decision::Hashes& Decision::next_hashes(std::uint32_t block_size) {
  if (sizes_ == hashes_.size()) hashes_.emplace_back();
  Hashes& hashes = hashes_[sizes_++];
  hashes.block_size = block_size;
  return hashes;
}

void Decision::begin(const Request& request, std::uint32_t router_block_size) {
  check(request, router_block_size);
  num_tokens_ = request.by_hashes ? request.num_tokens : request.token_ids.size();
  sizes_ = 0;
}

void Decision::hash(const Request& request, std::uint32_t router_block_size,
                    const IndexPool& indexes) {
  if (request.by_hashes) {
    next_hashes(router_block_size).view = request.local_hashes;
    return;
  }
  const auto* const known = request.given == nullptr ? nullptr : &request.given->features->hashes;
  const std::uint64_t seed = namespace_seed(request.name);
  indexes.for_each([&](std::uint32_t block_size, const PrefixTree& /*tree*/) {
    Hashes& hashes = next_hashes(block_size);
    if (known != nullptr) {
      const auto same = std::ranges::find(*known, block_size, [](auto& k) { return k.first; });
      if (same != known->end()) {
        hashes.view = same->second;
        return;
      }
    }
    hashes.own.resize(full_blocks(request.token_ids.size(), block_size));
    hash_blocks(request.token_ids, block_size, seed, hashes.own);
    hashes.view = hashes.own;
  });
}

std::span<const std::uint64_t> Decision::hashes(std::uint32_t block_size) const {
  for (std::size_t i = 0; i < sizes_; ++i) {
    if (hashes_[i].block_size == block_size) return hashes_[i].view;
  }
  return {};
}

void Decision::find_eligible(const Request& request, const TargetTable& targets, bool reasons) {
  eligibility_.find(request, targets, reasons);
  find_preferences(request, targets, eligibility_.slots(), preferences_);
}

void Decision::match(const TargetTable& targets, const IndexPool& indexes) {
  held_.assign(targets.slot_count(), 0);
  active_.assign(targets.slot_count(), 0);
  for (auto& depths : lower_) depths.clear();
  for (std::size_t i = 0; i < sizes_; ++i) {
    const Hashes& hashes = hashes_[i];
    const PrefixTree* const tree = indexes.find(hashes.block_size);
    if (tree == nullptr || hashes.view.empty()) continue;
    tree->match(hashes.view, overlaps_, Tier::external);
    take_depths(hashes.block_size, targets);
  }
}

void Decision::take_depths(std::uint32_t block_size, const TargetTable& targets) {
  const auto sizes = targets.block_sizes();
  const auto copy = [&](const std::vector<std::uint32_t>& from, std::vector<std::uint32_t>& to) {
    const std::size_t count = std::min(from.size(), to.size());
    for (std::size_t slot = 0; slot < count; ++slot) {
      if (sizes[slot] == block_size) to[slot] = from[slot];
    }
  };
  copy(overlaps_.held, held_);
  copy(overlaps_.active, active_);
  const bool has_lower = !overlaps_.lower.front().empty();
  if (has_lower && lower_.front().empty()) {
    for (auto& depths : lower_) depths = held_;  // nothing below the device in trees before
  }
  if (lower_.front().empty()) return;
  for (std::size_t tier = 1; tier < kTiers; ++tier) {
    copy(overlaps_.depths(static_cast<Tier>(tier)), lower_[tier - 1]);
  }
}

ScoreInput Decision::input(const Request& request, std::uint32_t router_block_size,
                           const TargetTable& targets, const LoadModel* load,
                           Nanoseconds now) const {
  ScoreInput input;
  input.num_tokens = num_tokens_;
  input.block_size = router_block_size;
  input.hashes = hashes(router_block_size);
  if (!request.session_id.empty()) input.session = hash_identifier(request.session_id);
  input.expected_output_tokens = request.expected_output_tokens;
  input.overrides = request.overrides;
  input.candidates = eligibility_.slots();
  input.held = held_;
  if (!lower_.front().empty()) {
    input.depths[0] = held_;
    for (std::size_t tier = 1; tier < kTiers; ++tier) input.depths[tier] = lower_[tier - 1];
  }
  input.preferences = preferences_;
  input.active = active_;
  input.block_sizes = targets.block_sizes();
  input.total_blocks = targets.total_blocks();
  input.identities = targets.identities();
  input.turns = targets.turns();
  if (load != nullptr) {
    input.loads = load->loads();
    input.histories = load->histories();
    input.fleet = &load->fleet();
    input.report_lifetime_seconds = input.fleet->report_lifetime_seconds;
  }
  input.now = now;
  return input;
}

// Between the features and now, targets may have come and gone, and slots changed hands.
bool Decision::take_given(const GivenCosts& given, const TargetTable& targets) {
  const Features& features = *given.features;
  const bool same = features.membership == targets.membership();
  const std::span<const Slot> candidates = eligibility_.slots();
  const std::span<double> costs = this->costs();
  std::ranges::fill(costs, std::numeric_limits<double>::infinity());
  bool knows_somebody = false;
  for (std::size_t i = 0, from = 0; i < candidates.size(); ++i) {
    const Slot slot = candidates[i];
    while (from < features.slots.size() && features.slots[from] < slot) ++from;
    if (from == features.slots.size() || features.slots[from] != slot) continue;
    if (!same && features.target(from) != targets.target(slot)) continue;
    costs[i] = given.costs[from];
    knows_somebody = true;
  }
  return knows_somebody;
}

std::span<double> Decision::costs() {
  costs_.resize(eligibility_.slots().size());
  return costs_;
}

}  // namespace kvroute::detail
