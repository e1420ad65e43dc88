#pragma once

#include <array>
#include <cstdint>

namespace kvroute {

/// xoshiro256** 1.0 (Blackman and Vigna, 2018), seeded through SplitMix64: one seedable generator
/// per router. Deterministic for a seed on every platform. Not thread-safe; not for secrets.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept;

  /// A seed from the system's entropy source.
  [[nodiscard]] static std::uint64_t entropy();

  [[nodiscard]] std::uint64_t next() noexcept;

  /// Uniform in [0, bound), without modulo bias (Lemire, 2019). `bound` must be positive.
  [[nodiscard]] std::uint64_t below(std::uint64_t bound) noexcept;

  /// Uniform in [0, 1), 53 bits.
  [[nodiscard]] double uniform() noexcept;

 private:
  std::array<std::uint64_t, 4> state_;
};

}  // namespace kvroute
