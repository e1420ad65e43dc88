#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kvroute/base/ids.h"
#include "kvroute/base/phase.h"

namespace kvroute {

/// Names one booking for ever: never reused, so that a late or second release cannot hit another.
using BookingId = std::uint64_t;

/// One running request's load on its target.
struct Booking {
  Slot slot = 0;
  std::string request_id;  ///< unique among running bookings
  std::uint64_t prompt_tokens = 0;
  std::uint64_t prefill_tokens = 0;  ///< the prompt's uncached tokens
  /// Leading tokens of the prompt that the target need not compute: held there, or in blocks of
  /// requests that run or wait there.
  std::uint64_t shared_tokens = 0;
  std::uint64_t new_blocks = 0;      ///< prompt blocks that no other booking there shares
  std::uint64_t unknown_blocks = 0;  ///< those of `new_blocks` whose hashes are not known
  std::uint32_t block_size = 1;      ///< of the target; positive
  std::optional<std::uint32_t> expected_output_tokens;  ///< absent: the fleet's mean
  /// With kDecode nothing is left to prefill: the booking begins after its first token, counts as
  /// no arrival, and of the prompt nothing is measured. With kPrefill one token is expected, and no
  /// decoding is measured.
  Phase phase = Phase::kWhole;
  std::uint64_t place = 0;  ///< of the request's known blocks in the prefix tree; opaque here
};

}  // namespace kvroute
