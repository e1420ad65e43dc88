#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "kvroute/policy/score_input.h"

namespace kvroute::detail {

/// One hash for the head of the prompt: of the local hashes of the full blocks within its first
/// `tokens` tokens, but of one block at least. Absent for a prompt without a full block. Hashes of
/// blocks stand under their namespace's seed, so that other adapters and salts have other heads.
[[nodiscard]] inline std::optional<std::uint64_t> prefix_key(const ScoreInput& input,
                                                             std::uint64_t tokens) noexcept {
  if (input.hashes.empty()) return std::nullopt;
  const std::uint64_t blocks =
      std::clamp<std::uint64_t>(tokens / input.block_size, 1, input.hashes.size());
  std::uint64_t key = 0x9e3779b97f4a7c15ULL;
  for (const std::uint64_t hash : input.hashes.first(blocks)) {
    key = (key ^ hash) * 0xbf58476d1ce4e5b9ULL;
    key ^= key >> 31;
  }
  return key;
}

}  // namespace kvroute::detail
