#pragma once

#include <cstddef>
#include <cstdint>

namespace kvroute {

/// What of a request a worker is chosen for.
enum class Phase : std::uint8_t {
  kWhole,    ///< all of it
  kPrefill,  ///< the prompt, whose KV cache another worker takes over
  kDecode,   ///< the answer to a prompt that was computed elsewhere
};
inline constexpr std::size_t kPhases = 3;

}  // namespace kvroute
