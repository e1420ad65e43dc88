#pragma once

#include <array>
#include <cstdint>
#include <numeric>
#include <optional>
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
        total_blocks(targets),
        identities(targets),
        turns(targets),
        loads(targets),
        histories(targets) {
    std::iota(candidates.begin(), candidates.end(), 0U);
    std::iota(turns.begin(), turns.end(), 0U);
    for (std::size_t i = 0; i < targets; ++i) identities[i] = (i + 1) * 0x9e3779b97f4a7c15ULL;
    fleet.targets = static_cast<std::uint32_t>(targets);
  }

  [[nodiscard]] ScoreInput input() const {
    ScoreInput input;
    input.num_tokens = num_tokens;
    input.block_size = 16;
    input.hashes = hashes;
    input.session = session;
    input.expected_output_tokens = expected_output_tokens;
    input.overrides = overrides;
    input.candidates = candidates;
    input.held = held;
    input.active = active;
    input.block_sizes = block_sizes;
    input.total_blocks = total_blocks;
    input.identities = identities;
    input.turns = turns;
    input.preferences = preferences;
    for (std::size_t tier = 0; tier < kTiers; ++tier) input.depths[tier] = depths[tier];
    input.loads = loads;
    input.histories = histories;
    input.fleet = &fleet;
    input.now = now;
    return input;
  }

  void report(Slot slot, const EngineLoad& load, Nanoseconds at = 0) {
    loads[slot].reported = load;
    loads[slot].reported_times = {.waiting = at, .running = at, .kv_usage = at};
    loads[slot].reported_at = at;
    loads[slot].reports = 1;
  }

  /// So much measured by predicted prefill time, of many first tokens until `now`.
  void measure_prefill(Slot slot, double scale, int first_tokens = 64) {
    for (int i = 0; i < first_tokens; ++i) loads[slot].prefill_scale.add(scale, 64);
    loads[slot].prefill_measured_at = now;
  }

  [[nodiscard]] std::vector<double> costs(const Policy& policy) const {
    std::vector<double> costs(candidates.size());
    policy.decider(input()).score(input(), costs);
    return costs;
  }

  std::uint64_t num_tokens = 160;
  Nanoseconds now = 0;
  std::vector<std::uint64_t> hashes;
  std::optional<std::uint64_t> session;
  std::optional<std::uint32_t> expected_output_tokens;
  RequestOverrides overrides;
  std::vector<Slot> candidates;
  std::vector<std::uint32_t> held;
  std::vector<std::uint32_t> active;
  std::vector<std::uint32_t> block_sizes;
  std::vector<std::uint64_t> total_blocks;
  std::vector<std::uint64_t> identities;
  std::vector<std::uint32_t> turns;
  std::vector<double> preferences;                        // empty: none
  std::array<std::vector<std::uint32_t>, kTiers> depths;  // empty: nothing below the device
  std::vector<TargetLoad> loads;
  std::vector<TargetHistory> histories;
  FleetLoad fleet;
};

}  // namespace kvroute
