#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvroute/base/random.h"
#include "kvroute/router/router.h"

namespace kvroute::bench {

inline constexpr std::uint32_t kBlockSize = 16;

/// Tokens at random, the same in every program.
inline std::vector<std::uint32_t> prompt(std::size_t tokens) {
  Random random(42);
  std::vector<std::uint32_t> ids(tokens);
  for (auto& id : ids) id = static_cast<std::uint32_t>(random.below(150'000));
  return ids;
}

/// Without workers, on a clock that stands still.
inline std::unique_ptr<Router> empty_router(const std::string& policy, std::size_t decision_log) {
  return std::make_unique<Router>(RouterOptions{.block_size = kBlockSize,
                                                .policy = policy,
                                                .memory_limit = {},
                                                .seed = 1,
                                                .clock = std::make_shared<VirtualClock>(),
                                                .decision_log = decision_log});
}

/// One target without events.
inline void add_worker(Router& router, std::int64_t name,
                       std::optional<std::uint64_t> total_blocks = {}) {
  router.add_worker({.name = name,
                     .block_size = {},
                     .kv_events = {},
                     .kv_replay = {},
                     .load_events = {},
                     .total_blocks = total_blocks,
                     .labels = {}});
}

}  // namespace kvroute::bench
