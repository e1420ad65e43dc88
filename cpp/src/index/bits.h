#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace kvroute::detail {

[[nodiscard]] constexpr std::uint32_t words_for(std::uint32_t bits) noexcept {
  return (bits + 63) / 64;
}

/// Calls visit(word number, mask) for every word that overlaps the bits [begin, end).
template <typename Visit>
void for_each_word(std::uint32_t begin, std::uint32_t end, Visit visit) {
  for (std::uint32_t at = begin; at < end;) {
    const std::uint32_t stop = std::min(end, (at / 64 + 1) * 64);
    const std::uint32_t width = stop - at;
    const std::uint64_t ones = width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
    visit(at / 64, ones << (at % 64));
    at = stop;
  }
}

inline std::uint32_t count_bits(const std::uint64_t* words, std::uint32_t begin,
                                std::uint32_t end) {
  std::uint32_t total = 0;
  for_each_word(begin, end, [&](std::uint32_t i, std::uint64_t mask) {
    total += static_cast<std::uint32_t>(std::popcount(words[i] & mask));
  });
  return total;
}

inline void set_bits(std::uint64_t* words, std::uint32_t begin, std::uint32_t end) {
  for_each_word(begin, end, [&](std::uint32_t i, std::uint64_t mask) { words[i] |= mask; });
}

inline void clear_bits(std::uint64_t* words, std::uint32_t begin, std::uint32_t end) {
  for_each_word(begin, end, [&](std::uint32_t i, std::uint64_t mask) { words[i] &= ~mask; });
}

/// First zero bit at or after `begin`, or `end` if there is none before it.
inline std::uint32_t first_zero(const std::uint64_t* words, std::uint32_t begin,
                                std::uint32_t end) {
  for (std::uint32_t at = begin; at < end; at = (at / 64 + 1) * 64) {
    const std::uint64_t zeros = ~words[at / 64] >> (at % 64);
    if (zeros != 0) {
      return std::min(end, at + static_cast<std::uint32_t>(std::countr_zero(zeros)));
    }
  }
  return end;
}

/// First set bit at or after `begin`, or `end` if there is none before it.
inline std::uint32_t first_one(const std::uint64_t* words, std::uint32_t begin, std::uint32_t end) {
  for (std::uint32_t at = begin; at < end; at = (at / 64 + 1) * 64) {
    const std::uint64_t ones = words[at / 64] >> (at % 64);
    if (ones != 0) return std::min(end, at + static_cast<std::uint32_t>(std::countr_zero(ones)));
  }
  return end;
}

/// Sets the bits `shift` + i for which bit i of `from` is set, for all i below `length`. Bits of
/// `from` beyond that are 0.
inline void or_shifted(std::uint64_t* bits, std::uint32_t shift, const std::uint64_t* from,
                       std::uint32_t length) noexcept {
  const std::uint32_t offset = shift % 64;
  std::uint64_t* to = bits + shift / 64;
  const auto words = static_cast<std::uint32_t>(words_for(length));
  for (std::uint32_t i = 0; i < words; ++i) {
    if (from[i] == 0) continue;
    to[i] |= from[i] << offset;
    if (const std::uint64_t carried = offset == 0 ? 0 : from[i] >> (64 - offset); carried != 0) {
      to[i + 1] |= carried;
    }
  }
}

}  // namespace kvroute::detail
