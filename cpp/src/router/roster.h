#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/policy/score_input.h"
#include "router/target_table.h"

namespace kvroute::detail {

/// Who the targets were at one time; what a ScoreInput says of them beside their loads. Kept by
/// what outlives the locks of a decision. Immutable.
struct Roster {
  std::uint64_t membership = 0;
  std::vector<TargetId> targets;  // all by slot
  std::vector<std::uint32_t> block_sizes;
  std::vector<std::uint64_t> total_blocks;
  std::vector<std::uint64_t> identities;
  std::vector<std::uint32_t> turns;
  std::vector<Slot> listed;  // ascending

  /// Has `input` view what it says of its targets here.
  void give_to(ScoreInput& input) const noexcept {
    input.block_sizes = block_sizes;
    input.total_blocks = total_blocks;
    input.identities = identities;
    input.turns = turns;
  }
  /// Memory that it takes; a worker's name of more than 15 bytes counts for these alone.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return sizeof(*this) + targets.size() * (sizeof(TargetId) + 2 * sizeof(std::uint32_t) +
                                             2 * sizeof(std::uint64_t) + sizeof(Slot));
  }
};

/// A table's roster, made anew when somebody asks after its membership has changed. Thread-safe.
class LatestRoster {
 public:
  /// The table must not change meanwhile. O(targets) after a change, else O(1).
  [[nodiscard]] std::shared_ptr<const Roster> of(const TargetTable& table);

 private:
  std::mutex mutex_;
  std::shared_ptr<const Roster> roster_;
};

}  // namespace kvroute::detail
