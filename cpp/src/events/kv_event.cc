#include "kvroute/events/kv_event.h"

#include <array>
#include <utility>

namespace kvroute {

std::optional<Tier> tier_of_medium(std::string_view medium) noexcept {
  using Entry = std::pair<std::string_view, Tier>;
  constexpr std::array kMedia{
      Entry{"", Tier::device},           Entry{"GPU", Tier::device},
      Entry{"DEVICE", Tier::device},     Entry{"CPU", Tier::host},
      Entry{"CPU_PINNED", Tier::host},   Entry{"CPU_TIER1", Tier::host},
      Entry{"CPU_TIER2", Tier::disk},    Entry{"DISK", Tier::disk},
      Entry{"NVME", Tier::disk},         Entry{"STORAGE", Tier::disk},
      Entry{"EXTERNAL", Tier::external}, Entry{"NETWORK", Tier::external},
      Entry{"REMOTE", Tier::external},   Entry{"SHARED", Tier::external},
  };
  for (const Entry& entry : kMedia) {
    if (entry.first == medium) return entry.second;
  }
  return std::nullopt;
}

}  // namespace kvroute
