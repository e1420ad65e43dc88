#include "index/mismatch.h"

#include <array>
#include <bit>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvroute::detail {

std::size_t mismatch_portable(const std::uint64_t* a, const std::uint64_t* b, std::size_t n) {
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const std::uint64_t differs =
        (a[i] ^ b[i]) | (a[i + 1] ^ b[i + 1]) | (a[i + 2] ^ b[i + 2]) | (a[i + 3] ^ b[i + 3]);
    if (differs != 0) break;
  }
  while (i < n && a[i] == b[i]) ++i;
  return i;
}

#if defined(__x86_64__)
namespace {

__attribute__((target("avx2"))) std::size_t mismatch_avx2(const std::uint64_t* a,
                                                          const std::uint64_t* b, std::size_t n) {
  const auto differs = [&](std::size_t i) __attribute__((target("avx2"))) {
    return _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + i)),
                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + i)));
  };
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i any = _mm256_or_si256(_mm256_or_si256(differs(i), differs(i + 4)),
                                        _mm256_or_si256(differs(i + 8), differs(i + 12)));
    if (_mm256_testz_si256(any, any) == 0) break;
  }
  while (i < n && a[i] == b[i]) ++i;
  return i;
}

__attribute__((target("avx512f"))) std::size_t mismatch_avx512(const std::uint64_t* a,
                                                               const std::uint64_t* b,
                                                               std::size_t n) {
  const auto differs = [&](std::size_t i) __attribute__((target("avx512f"))) {
    return _mm512_xor_si512(_mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i));
  };
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m512i any = _mm512_or_si512(_mm512_or_si512(differs(i), differs(i + 8)),
                                        _mm512_or_si512(differs(i + 16), differs(i + 24)));
    if (_mm512_test_epi64_mask(any, any) != 0) break;
  }
  for (; i < n; i += 8) {
    const std::size_t left = n - i;
    const auto lanes = static_cast<__mmask8>(left >= 8 ? 0xff : (1U << left) - 1);
    const __mmask8 unequal = _mm512_mask_cmpneq_epi64_mask(
        lanes, _mm512_maskz_loadu_epi64(lanes, a + i), _mm512_maskz_loadu_epi64(lanes, b + i));
    if (unequal != 0) return i + static_cast<std::size_t>(std::countr_zero(unsigned{unequal}));
  }
  return n;
}

}  // namespace

const MismatchFunction* runnable_mismatches() noexcept {
  static const std::array<MismatchFunction, 3> runnable = [] {
    std::array<MismatchFunction, 3> functions{};
    std::size_t count = 0;
    if (__builtin_cpu_supports("avx512f") != 0) functions[count++] = mismatch_avx512;
    if (__builtin_cpu_supports("avx2") != 0) functions[count++] = mismatch_avx2;
    return functions;
  }();
  return runnable.data();
}
#else
const MismatchFunction* runnable_mismatches() noexcept {
  static const std::array<MismatchFunction, 1> none{};
  return none.data();
}
#endif

MismatchFunction best_mismatch() noexcept {
  const MismatchFunction* runnable = runnable_mismatches();
  return *runnable != nullptr ? *runnable : mismatch_portable;
}

}  // namespace kvroute::detail
