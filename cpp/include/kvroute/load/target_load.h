#pragma once

#include <cstdint>
#include <optional>

#include "kvroute/base/clock.h"

namespace kvroute {

/// What an engine says of itself. A field that is absent was not reported.
struct EngineLoad {
  std::optional<std::uint32_t> waiting;  ///< requests queued in the engine
  std::optional<std::uint32_t> running;  ///< requests in its running batch
  std::optional<double> kv_usage;        ///< share of its KV blocks in use, 0 to 1
};

/// What one target is doing, as this router knows it. Booked figures come from this router's own
/// reservations and are exact for them; reported ones come from the engine and carry an age.
struct TargetLoad {
  std::uint64_t prefill_tokens = 0;  ///< uncached prompt tokens of bookings without a first token
  std::uint64_t prompt_blocks = 0;   ///< prompt blocks of bookings, a shared prefix counted once
  std::uint64_t output_blocks = 0;   ///< blocks that the output of bookings has grown by
  std::uint32_t requests = 0;        ///< bookings that have not ended
  EngineLoad reported;
  Nanoseconds reported_at = 0;   ///< meaningful once `reports` > 0
  std::uint64_t reports = 0;     ///< how many reports came
  std::uint32_t picks = 0;       ///< times chosen since the last report of `waiting`
  std::uint64_t selections = 0;  ///< times chosen ever

  [[nodiscard]] std::uint64_t active_blocks() const noexcept {
    return prompt_blocks + output_blocks;
  }
};

}  // namespace kvroute
