#pragma once

#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "kvroute/router/router.h"

namespace kvroute {

/// A router of block size 16 on a virtual clock.
struct RouterFixture {
  explicit RouterFixture(std::string policy = "kv_cost", std::size_t decision_log = 0)
      : router({.block_size = 16,
                .policy = std::move(policy),
                .memory_limit = {},
                .seed = 1,
                .clock = clock,
                .decision_log = decision_log}) {}

  void add(std::int64_t worker, std::uint32_t ranks = 1) {
    router.add_worker({.name = worker,
                       .dp_ranks = ranks,
                       .block_size = {},
                       .kv_events = {},
                       .kv_replay = {},
                       .load_events = {},
                       .total_blocks = {},
                       .labels = {}});
  }

  std::shared_ptr<VirtualClock> clock = std::make_shared<VirtualClock>();
  Router router;
};

/// `count` consecutive token ids.
inline std::vector<std::uint32_t> tokens_from(std::uint32_t first, std::size_t count) {
  std::vector<std::uint32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

inline Request request_for(const std::vector<std::uint32_t>& tokens,
                           const std::vector<WorkerRef>* allowed = nullptr) {
  Request request;
  request.token_ids = tokens;
  request.allowed = allowed;
  return request;
}

}  // namespace kvroute
