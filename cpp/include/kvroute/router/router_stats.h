#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/events/subscriber.h"
#include "kvroute/index/prefix_tree.h"
#include "kvroute/load/target_load.h"

namespace kvroute {

/// What became of one target's events on their way into the index. Counters never fall.
struct SinkStats {
  std::uint64_t stored_blocks = 0;    ///< newly held
  std::uint64_t removed_blocks = 0;   ///< no longer held
  std::uint64_t duplicates = 0;       ///< stored again while held
  std::uint64_t unknown_parents = 0;  ///< stored events whose parent was never announced: dropped
  std::uint64_t unknown_blocks = 0;   ///< removed without having been announced
  std::uint64_t clears = 0;
  std::uint64_t ignored = 0;  ///< events of other tiers, and of ranks the worker was not added with
};

struct TargetStats {
  TargetId target;
  TargetLoad load;
  std::optional<double> load_age_seconds;     ///< since the last report
  std::uint64_t held_blocks = 0;              ///< exact and predicted
  std::optional<std::uint64_t> total_blocks;  ///< as the worker was added with
  SinkStats sink;
  std::optional<StreamStats> stream;  ///< absent for a target without events
};

struct IndexUse {
  std::uint32_t block_size = 0;
  std::size_t targets = 0;  ///< that use it
  std::optional<std::size_t> memory_limit;
  IndexStats stats;
};

struct RouterStats {
  std::vector<TargetStats> targets;  ///< by worker in the order of adding, then by rank
  std::vector<IndexUse> indexes;     ///< by block size
  std::size_t reservations = 0;
  std::uint64_t expired_reservations = 0;
  std::uint64_t selections = 0;
};

}  // namespace kvroute
