#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "kvroute/index/overlaps.h"
#include "operation.h"

namespace kvroute::testing {

/// Labels that each slot may hold, in any tier, or have pinned by now. The generator's labels name
/// their whole path (without GeneratorOptions::few_labels), so one label stands for one block.
class EverHeld {
 public:
  void add(const Op& op) {
    if (op.kind == OpKind::kMatch) return;
    const std::scoped_lock lock(mutex_);
    if (op.slot >= slots_.size()) slots_.resize(op.slot + 1);
    slots_[op.slot].insert(op.labels.begin(), op.labels.end());
  }

  [[nodiscard]] bool contains(Slot slot, std::uint64_t label) const {
    const std::scoped_lock lock(mutex_);
    return slot < slots_.size() && slots_[slot].contains(label);
  }

  /// \return how many depths of the answer are above what was ever held.
  [[nodiscard]] std::size_t above(const Overlaps& answer,
                                  const std::vector<std::uint64_t>& labels) const {
    std::size_t count = 0;
    const auto check = [&](Slot slot, std::uint32_t depth) {
      if (depth > 0 && !contains(slot, labels[depth - 1])) ++count;
    };
    for (Slot slot = 0; slot < answer.held.size(); ++slot) {
      for (std::size_t i = 0; i < kTiers; ++i) {
        const auto tier = static_cast<Tier>(i);
        check(slot, answer.depth(slot, tier));
        if (answer.depth(slot, tier) < answer.held[slot]) ++count;
      }
      if (slot < answer.active.size()) check(slot, answer.active[slot]);
    }
    return count;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::unordered_set<std::uint64_t>> slots_;
};

}  // namespace kvroute::testing
