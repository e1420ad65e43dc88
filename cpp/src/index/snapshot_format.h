#pragma once

#include <cstdint>
#include <string_view>

namespace kvroute::detail {

inline constexpr std::string_view kSnapshotMagic = "KVRTTREE";
/// Goes up with every change of the format. Older versions are refused: engines tell again.
inline constexpr std::uint32_t kSnapshotVersion = 1;

}  // namespace kvroute::detail
