#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace kvroute {

/// Seed of all block and sequence hashes: that of NVIDIA Dynamo (lib/kv-router, v1.x), so that
/// hashes computed there can be sent here.
inline constexpr std::uint64_t kHashSeed = 1337;

/// What separates caches that must not match. An empty part counts as absent.
struct Namespace {
  std::string_view lora;    ///< LoRA adapter's name
  std::string_view salt;    ///< cache salt of the request
  std::string_view tenant;  ///< anything else the caller separates by (`namespace=` in Python)
};

/// The seed that stands for a namespace: `kHashSeed`, plus XXH3-64 of the LoRA name (seed 0), of
/// the salt (seed 1) and of the tenant (seed 2) where present, modulo 2^64. The first two as
/// Dynamo v1.3 and later; the third is kvroute's own.
[[nodiscard]] std::uint64_t namespace_seed(const Namespace& name) noexcept;

/// How many full blocks `num_tokens` tokens make; a trailing partial block never counts.
[[nodiscard]] constexpr std::size_t full_blocks(std::size_t num_tokens,
                                                std::size_t block_size) noexcept {
  return num_tokens / block_size;
}

/// Local hash of each full block: XXH3-64 of its token ids as little-endian u32, under `seed`.
/// Writes `full_blocks(tokens.size(), block_size)` values to `out`, which must have room for them.
/// `block_size` must be positive. O(tokens); allocates nothing.
void hash_blocks(std::span<const std::uint32_t> tokens, std::size_t block_size, std::uint64_t seed,
                 std::span<std::uint64_t> out) noexcept;

/// The same as a new vector.
[[nodiscard]] std::vector<std::uint64_t> hash_blocks(std::span<const std::uint32_t> tokens,
                                                     std::size_t block_size,
                                                     std::uint64_t seed = kHashSeed);

/// Local hash of one block with content beyond its tokens (images, prompt embeddings): XXH3-64 of
/// the token ids, then of `extra` (one 64-bit digest per object, in the given order), both
/// little-endian. Callers sort the digests, as Dynamo does. Equals `hash_blocks` without extra.
[[nodiscard]] std::uint64_t hash_block_with_extra(std::span<const std::uint32_t> tokens,
                                                  std::span<const std::uint64_t> extra,
                                                  std::uint64_t seed);

/// Chained hash of each block and all before it: the first is its local hash, every other
/// XXH3-64 of (previous sequence hash, local hash) as two little-endian u64, under `seed`.
/// `out` must have the size of `local`. A chain cannot be computed in parallel: about 7 ns a block.
void sequence_hashes(std::span<const std::uint64_t> local, std::span<std::uint64_t> out,
                     std::uint64_t seed = kHashSeed) noexcept;

/// Digest of a multimodal object's identifier: a text of exactly 64 hexadecimal digits stands for
/// its first 16 as a number, any other for its XXH3-64 (seed 0). As Dynamo's.
[[nodiscard]] std::uint64_t hash_identifier(std::string_view identifier) noexcept;

}  // namespace kvroute
