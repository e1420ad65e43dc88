#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kvroute/base/ids.h"
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
};

/// `known` if it is still right, else a new one.
[[nodiscard]] inline std::shared_ptr<const Roster> roster_of(
    const TargetTable& table, const std::shared_ptr<const Roster>& known) {
  if (known && known->membership == table.membership()) return known;
  const auto copy = [](auto values) { return std::vector(values.begin(), values.end()); };
  auto roster = std::make_shared<Roster>();
  roster->membership = table.membership();
  roster->targets = copy(table.targets());
  roster->block_sizes = copy(table.block_sizes());
  roster->total_blocks = copy(table.total_blocks());
  roster->identities = copy(table.identities());
  roster->turns = copy(table.turns());
  roster->listed = copy(table.listed());
  return roster;
}

}  // namespace kvroute::detail
