#include "router/roster.h"

#include <utility>

namespace kvroute::detail {

std::shared_ptr<const Roster> LatestRoster::of(const TargetTable& table) {
  const std::lock_guard lock(mutex_);
  if (roster_ && roster_->membership == table.membership()) return roster_;
  const auto copy = [](auto values) { return std::vector(values.begin(), values.end()); };
  auto roster = std::make_shared<Roster>();
  roster->membership = table.membership();
  roster->targets = copy(table.targets());
  roster->block_sizes = copy(table.block_sizes());
  roster->total_blocks = copy(table.total_blocks());
  roster->identities = copy(table.identities());
  roster->turns = copy(table.turns());
  roster->listed = copy(table.listed());
  roster_ = std::move(roster);
  return roster_;
}

}  // namespace kvroute::detail
