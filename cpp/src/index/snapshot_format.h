#pragma once

#include "index/snapshot_bytes.h"

namespace kvroute::detail {

inline constexpr SnapshotFormat kTreeSnapshot{
    .magic = "KVRTTREE", .version = 1, .version_bytes = 1, .whose = "PrefixTree::snapshot"};

}  // namespace kvroute::detail
