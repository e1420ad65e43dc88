#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/policy/score_input.h"
#include "kvroute/policy/target_set.h"

namespace kvroute {

/// What keeps a target from being chosen.
enum class Exclusion : std::uint8_t {
  allowed,   ///< not among those that the request allows
  pinned,    ///< the request names another target
  rank,      ///< its data-parallel rank is outside the request's range
  label,     ///< it lacks a label that the request requires
  model,     ///< it serves another model
  draining,  ///< it takes no new requests
  lora,      ///< others have the request's LoRA adapter resident
  waiting,   ///< overloaded: its engine's queue
  kv_usage,  ///< overloaded: its engine's KV blocks in use
  prefill,   ///< overloaded: prompt tokens booked for it and not computed yet
};

/// In words, for explanations.
[[nodiscard]] std::string_view reason_of(Exclusion exclusion) noexcept;

/// Who may be chosen, narrowed by one filter after the other. Keeps its memory from one use to the
/// next; every call is linear in those who are left, and copies nothing before the first exclusion.
class Eligible {
 public:
  /// Starts with these; they are viewed. `reasons`: whether to note whom each filter excludes.
  void begin(std::span<const Slot> slots, bool reasons = false);

  /// Excludes those for whom `stays(slot)` is false.
  template <typename Stays>
  void keep_if(Stays stays, Exclusion why) {
    std::size_t first = 0;
    while (first < slots_.size() && stays(slots_[first])) ++first;
    if (first == slots_.size()) return;
    if (own_.size() < slots_.size()) own_.resize(slots_.size());
    std::size_t kept = 0;
    for (std::size_t i = 0; i < slots_.size(); ++i) {  // in place where `slots_` views `own_`
      const Slot slot = slots_[i];
      if (i < first || (i > first && stays(slot))) {
        own_[kept++] = slot;
      } else if (reasons_) {
        excluded_.emplace_back(slot, why);
      }
    }
    slots_ = std::span(own_).first(kept);
  }
  void keep(const TargetSet& targets, Exclusion why) {
    keep_if([&](Slot slot) { return targets.contains(slot); }, why);
  }
  void drop(const TargetSet& targets, Exclusion why) {
    if (!targets.empty()) keep_if([&](Slot slot) { return !targets.contains(slot); }, why);
  }
  /// Keeps these, unless nobody would be left: then it changes nothing.
  void prefer(const TargetSet& targets, Exclusion why);

  /// Ascending. Valid until the next call, and as long as what `begin` was given.
  [[nodiscard]] std::span<const Slot> slots() const noexcept { return slots_; }
  [[nodiscard]] std::span<const std::pair<Slot, Exclusion>> excluded() const noexcept {
    return excluded_;
  }

 private:
  std::span<const Slot> slots_;
  std::vector<Slot> own_;
  std::vector<std::pair<Slot, Exclusion>> excluded_;
  bool reasons_ = false;
};

/// When a target takes no further request. A figure beyond its limit is too much; one that is not
/// known, or no longer fresh, never is. Absent: no limit.
///
/// Between two reports an engine's queue grows by what is sent to it: `TargetLoad::unreported`
/// counts on top of `waiting`, so that a burst stops at the limit. It is an upper bound: some of
/// those may run already. A request that was only selected, not booked, counts until the next
/// report.
struct OverloadLimits {
  std::optional<std::uint32_t> waiting;         ///< requests queued in the engine, see above
  std::optional<double> kv_usage;               ///< share of its KV blocks in use, as it reports
  std::optional<std::uint64_t> prefill_tokens;  ///< booked here: uncached, without a first token

  [[nodiscard]] bool any() const noexcept { return waiting || kv_usage || prefill_tokens; }
};

/// Excludes the overloaded ones of `eligible`.
void drop_overloaded(Eligible& eligible, const OverloadLimits& limits, const ScoreInput& input);

}  // namespace kvroute
