#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "kvroute/base/tier.h"

namespace kvroute {

/// The tier of a medium's name, by NVIDIA Dynamo's table (lib/kv-router, v1.6): absent, "GPU" and
/// "DEVICE" are device; "CPU", "CPU_PINNED" and "CPU_TIER1" host; "CPU_TIER2", "DISK", "NVME" and
/// "STORAGE" disk; "EXTERNAL", "NETWORK", "REMOTE" and "SHARED" external. Empty for another name.
[[nodiscard]] std::optional<Tier> tier_of_medium(std::string_view medium) noexcept;

/// Content of one block beyond its token ids, as `hash_block_with_extra` takes it.
struct BlockExtra {
  /// Ascending digests (`hash_identifier`) of the multimodal objects and prompt embeddings in the
  /// block. Content that the decoder does not understand gives the block's own engine hash, so
  /// that the block matches no request, instead of matching one that it must not.
  std::span<const std::uint64_t> digests;
};

/// Blocks that an engine has put into its cache, one after the other in one sequence.
///
/// The normal form of every engine's event. All views live only as long as the sink's call.
/// Engine hashes are 64-bit: signed ones are cast (two's complement), byte strings give their
/// last 8 bytes, big-endian, which is the integer form of the same hash.
struct BlockStored {
  /// One per block, no two alike and none equal to `parent`; never empty.
  std::span<const std::uint64_t> engine_hashes;
  /// The block before the first one; absent at the beginning of a sequence.
  std::optional<std::uint64_t> parent;
  /// `block_size` for each block; or empty: the event only says that known blocks (also) lie on
  /// `tier`, and `block_size` and `parent` mean nothing.
  std::span<const std::uint32_t> token_ids;
  std::uint32_t block_size = 0;
  Tier tier = Tier::device;
  /// LoRA adapter's name; empty for the base model.
  std::string_view lora_name;
  /// LoRA adapter's number, where an engine gives (older vLLM) no name. With an empty `lora_name`
  /// and a number here the blocks are an adapter's, and must not match the base model's.
  std::optional<std::int64_t> lora_id;
  /// Cache salt. vLLM names it in the first block of a sequence only: descendants inherit it.
  std::string_view salt;
  /// One per block, or empty where no block has any.
  std::span<const BlockExtra> extra;
  /// Attention group of a hybrid model, where the engine says it. Only groups of full attention
  /// ("main" groups) arrive here.
  std::optional<std::uint32_t> group_idx;
};

/// Blocks that an engine has dropped from `tier`.
struct BlockRemoved {
  std::span<const std::uint64_t> engine_hashes;
  Tier tier = Tier::device;
  std::optional<std::uint32_t> group_idx;
};

}  // namespace kvroute
