#pragma once

#include <cstdint>

namespace kvroute::detail {

/// How much a target wants a key, uniform in [0, 1): the greatest of the candidates has it (highest
/// random weight: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998).
/// A function of both hashes alone, the same in every process.
[[nodiscard]] inline double rendezvous_weight(std::uint64_t key, std::uint64_t identity) noexcept {
  // SplitMix64's finaliser (Stafford's variant 13) over both.
  const auto mix = [](std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
  };
  const std::uint64_t bits = mix(mix(key + 0x9e3779b97f4a7c15ULL) ^ identity);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

}  // namespace kvroute::detail
