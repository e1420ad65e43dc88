#pragma once

#include <cstdint>

namespace kvroute {

/// How long an engine computes on a prompt's uncached tokens, alone on an idle engine:
///
///     seconds(L, c) = (L - c) / tokens_per_second + attention_seconds * (L^2 - c^2) / 2
///
/// for L prompt tokens of which c are cached. Only the proportion of the two parameters need be
/// right: the load model scales the result by measured first tokens (`prefill_scale`). Defaults: a
/// model of 70 billion parameters on four H100; the second from its 80 layers of width 8,192.
struct PrefillModel {
  double tokens_per_second = 12'000;
  double attention_seconds = 1.6e-9;  ///< for each pair of a token and a position before it

  [[nodiscard]] double seconds(std::uint64_t tokens, std::uint64_t cached) const noexcept {
    const auto all = static_cast<double>(tokens);
    const auto known = static_cast<double>(cached < tokens ? cached : tokens);
    return (all - known) / tokens_per_second + attention_seconds * (all * all - known * known) / 2;
  }
};

}  // namespace kvroute
