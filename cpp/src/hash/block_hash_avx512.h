#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kvroute::detail {

/// Whether `hash_16_tokens_avx512` may be called on this processor.
[[nodiscard]] bool has_avx512() noexcept;

/// Hashes blocks of 16 tokens as `hash_blocks` does, eight at a time: the first
/// `out.size() / 8 * 8` of them. \return how many that are.
[[nodiscard]] std::size_t hash_16_tokens_avx512(const std::uint32_t* tokens, std::uint64_t seed,
                                                std::span<std::uint64_t> out) noexcept;

}  // namespace kvroute::detail
