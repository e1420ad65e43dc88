#pragma once

#include <cstdint>

#include "kvroute/base/ids.h"
#include "kvroute/base/tier.h"

namespace kvroute::detail {

/// One slot in one tier: what holds blocks under names.
struct LaneId {
  Slot slot = 0;
  Tier tier = Tier::device;

  [[nodiscard]] std::uint32_t key() const noexcept {
    return slot * static_cast<std::uint32_t>(kTiers) + static_cast<std::uint32_t>(tier);
  }
  friend bool operator==(const LaneId&, const LaneId&) = default;
};

}  // namespace kvroute::detail
