#include "hash/block_hash_avx512.h"

#if defined(__x86_64__) && defined(__GNUC__)

#ifndef __clang__  // g++ 12 warns of its own header (GCC bug 105593)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include <array>
#include <bit>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define KVROUTE_AVX512 __attribute__((target("avx512f,avx512dq")))

namespace kvroute::detail {
namespace {

constexpr std::size_t kTokens = 16;
constexpr std::size_t kAtOnce = 8;

// XXH3-64 of 64 bytes (xxHash 0.8, XXH3_len_17to128_64b) multiplies four pairs of words, each word
// xored with one of the secret. This is the secret's word for each of the block's eight.
KVROUTE_AVX512 __m512i secret_words(std::uint64_t seed) noexcept {
  constexpr std::array<std::size_t, 8> kOffsets{0, 8, 32, 40, 48, 56, 16, 24};
  alignas(64) std::array<std::uint64_t, 8> words{};
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::memcpy(&words[i], &XXH3_kSecret[kOffsets[i]], sizeof(std::uint64_t));
    words[i] += i % 2 == 0 ? seed : 0 - seed;
  }
  return _mm512_load_si512(words.data());
}

// Both halves of each 128-bit product, xored. There is no such multiplication of 64-bit lanes: it
// is done in four of 32 bits.
KVROUTE_AVX512 inline __m512i fold_product(__m512i a, __m512i b) noexcept {
  const __m512i low_half = _mm512_set1_epi64(0xffffffff);
  const __m512i a_high = _mm512_srli_epi64(a, 32);
  const __m512i b_high = _mm512_srli_epi64(b, 32);
  const __m512i low = _mm512_mul_epu32(a, b);
  const __m512i cross = _mm512_add_epi64(_mm512_mul_epu32(a_high, b), _mm512_srli_epi64(low, 32));
  const __m512i middle =
      _mm512_add_epi64(_mm512_mul_epu32(a, b_high), _mm512_and_si512(cross, low_half));
  const __m512i high = _mm512_add_epi64(
      _mm512_add_epi64(_mm512_mul_epu32(a_high, b_high), _mm512_srli_epi64(cross, 32)),
      _mm512_srli_epi64(middle, 32));
  const __m512i lower =
      _mm512_or_si512(_mm512_slli_epi64(middle, 32), _mm512_and_si512(low, low_half));
  return _mm512_xor_si512(high, lower);
}

// The four products of two blocks: a, b, a, b, a, b, a, b.
KVROUTE_AVX512 inline __m512i products(const std::uint32_t* tokens, __m512i secret) noexcept {
  const __m512i a = _mm512_xor_si512(_mm512_loadu_si512(tokens), secret);
  const __m512i b = _mm512_xor_si512(_mm512_loadu_si512(tokens + kTokens), secret);
  return fold_product(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

// Sums of the even and of the odd quarters of two registers, side by side.
KVROUTE_AVX512 inline __m512i halves_added(__m512i one, __m512i other) noexcept {
  return _mm512_add_epi64(_mm512_shuffle_i64x2(one, other, 0x44),
                          _mm512_shuffle_i64x2(one, other, 0xee));
}
KVROUTE_AVX512 inline __m512i quarters_added(__m512i one, __m512i other) noexcept {
  return _mm512_add_epi64(_mm512_shuffle_i64x2(one, other, 0x88),
                          _mm512_shuffle_i64x2(one, other, 0xdd));
}

// XXH3_avalanche.
KVROUTE_AVX512 inline __m512i avalanche(__m512i hash) noexcept {
  constexpr long long kMultiplier = 0x165667919e3779f9;
  hash = _mm512_xor_si512(hash, _mm512_srli_epi64(hash, 37));
  hash = _mm512_mullo_epi64(hash, _mm512_set1_epi64(kMultiplier));
  return _mm512_xor_si512(hash, _mm512_srli_epi64(hash, 32));
}

}  // namespace

bool has_avx512() noexcept {
  static const bool has =
      __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512dq") != 0;
  return has;
}

KVROUTE_AVX512 std::size_t hash_16_tokens_avx512(const std::uint32_t* tokens, std::uint64_t seed,
                                                 std::span<std::uint64_t> out) noexcept {
  const __m512i secret = secret_words(seed);
  constexpr std::uint64_t kLength = kTokens * sizeof(std::uint32_t) * XXH_PRIME64_1;
  const __m512i length = _mm512_set1_epi64(std::bit_cast<long long>(kLength));
  const std::size_t count = out.size() / kAtOnce * kAtOnce;
  for (std::size_t i = 0; i < count; i += kAtOnce, tokens += kAtOnce * kTokens) {
    const __m512i first =
        halves_added(products(tokens, secret), products(tokens + 2 * kTokens, secret));
    const __m512i second = halves_added(products(tokens + 4 * kTokens, secret),
                                        products(tokens + 6 * kTokens, secret));
    const __m512i sums = _mm512_add_epi64(quarters_added(first, second), length);
    _mm512_storeu_si512(&out[i], avalanche(sums));
  }
  return count;
}

}  // namespace kvroute::detail

#else

namespace kvroute::detail {

bool has_avx512() noexcept { return false; }

std::size_t hash_16_tokens_avx512(const std::uint32_t* /*tokens*/, std::uint64_t /*seed*/,
                                  std::span<std::uint64_t> /*out*/) noexcept {
  return 0;
}

}  // namespace kvroute::detail

#endif
