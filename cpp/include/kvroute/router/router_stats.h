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
  std::uint64_t stored_blocks = 0;    ///< newly held on the device, those that had waited included
  std::uint64_t removed_blocks = 0;   ///< no longer held on the device
  std::uint64_t stored_lower = 0;     ///< newly held in a tier below the device
  std::uint64_t removed_lower = 0;    ///< no longer held in a tier below the device
  std::uint64_t duplicates = 0;       ///< stored again in the tier in which they are held
  std::uint64_t unknown_parents = 0;  ///< stored events that came before their parent, and wait
  std::uint64_t unknown_blocks = 0;   ///< removed, or moved without tokens, but never announced
  std::uint64_t clears = 0;
  std::uint64_t ignored = 0;  ///< events of ranks that the worker was not added with
};

struct TargetStats {
  TargetId target;
  TargetLoad load;
  std::optional<double> load_age_seconds;     ///< since the last report
  std::optional<double> first_token_seconds;  ///< mean, from booking to first token, in the window
  std::uint64_t held_blocks = 0;              ///< on the device, exact and predicted
  std::optional<std::uint64_t> total_blocks;  ///< as it was added with, else as its engine says
  bool draining = false;
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
  std::uint64_t policy_fallbacks = 0;  ///< decisions of the policy in place of costs to be given
};

}  // namespace kvroute
