#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "kvroute/policy/policy.h"

namespace kvroute {

/// Owns what a ScoreInput points to: `targets` idle targets of block size 16, to be changed.
struct ScoreInputBuilder {
  explicit ScoreInputBuilder(std::size_t targets)
      : candidates(targets),
        held(targets),
        active(targets),
        block_sizes(targets, 16),
        loads(targets) {
    std::iota(candidates.begin(), candidates.end(), 0U);
  }

  [[nodiscard]] ScoreInput input() const {
    return {.num_tokens = num_tokens,
            .block_size = 16,
            .candidates = candidates,
            .held = held,
            .active = active,
            .block_sizes = block_sizes,
            .loads = loads,
            .now = now};
  }

  void report(Slot slot, const EngineLoad& load, Nanoseconds at = 0) {
    loads[slot].reported = load;
    loads[slot].reported_at = at;
    loads[slot].reports = 1;
  }

  [[nodiscard]] std::vector<double> costs(const Policy& policy) const {
    std::vector<double> costs(candidates.size());
    policy.score(input(), costs);
    return costs;
  }

  std::uint64_t num_tokens = 160;
  Nanoseconds now = 0;
  std::vector<Slot> candidates;
  std::vector<std::uint32_t> held;
  std::vector<std::uint32_t> active;
  std::vector<std::uint32_t> block_sizes;
  std::vector<TargetLoad> loads;
};

}  // namespace kvroute
