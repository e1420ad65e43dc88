#include "kvroute/policy/filters.h"

#include <algorithm>

namespace kvroute {

std::string_view reason_of(Exclusion exclusion) noexcept {
  switch (exclusion) {
    case Exclusion::allowed: return "not in allowed";
    case Exclusion::pinned: return "not the pinned target";
    case Exclusion::rank: return "not in dp_ranks";
    case Exclusion::label: return "without a required label";
    case Exclusion::model: return "serves another model";
    case Exclusion::draining: return "draining";
    case Exclusion::lora: return "others have the LoRA resident";
    case Exclusion::waiting: return "overloaded: waiting";
    case Exclusion::kv_usage: return "overloaded: kv_usage";
    case Exclusion::prefill: return "overloaded: prefill_tokens";
  }
  return "";
}

void Eligible::begin(std::span<const Slot> slots, bool reasons) {
  slots_ = slots;
  excluded_.clear();
  reasons_ = reasons;
}

void Eligible::prefer(const TargetSet& targets, Exclusion why) {
  const auto wanted = [&](Slot slot) { return targets.contains(slot); };
  if (std::ranges::any_of(slots_, wanted)) keep_if(wanted, why);
}

void drop_overloaded(Eligible& eligible, const OverloadLimits& limits, const ScoreInput& input) {
  if (limits.prefill_tokens) {
    const auto stays = [&](Slot slot) {
      return input.loads[slot].prefill_tokens <= *limits.prefill_tokens;
    };
    eligible.keep_if(stays, Exclusion::prefill);
  }
  if (limits.waiting) {
    const auto stays = [&](Slot slot) {
      const auto waiting = input.reported(slot).waiting;
      return !waiting || std::uint64_t{*waiting} + input.loads[slot].unreported <= *limits.waiting;
    };
    eligible.keep_if(stays, Exclusion::waiting);
  }
  if (limits.kv_usage) {
    const auto stays = [&](Slot slot) {
      return input.reported(slot).kv_usage.value_or(0) <= *limits.kv_usage;
    };
    eligible.keep_if(stays, Exclusion::kv_usage);
  }
}

}  // namespace kvroute
