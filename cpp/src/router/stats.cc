// What a router tells of itself.

#include <map>
#include <span>
#include <vector>

#include "router/router_impl.h"

namespace kvroute {

TargetStats Router::Impl::target_stats(const detail::Worker& worker, std::size_t rank,
                                       std::span<const std::size_t> held,
                                       const SeenLoads& seen) const {
  const Slot slot = worker.slots[rank];
  TargetStats stats{.target = targets_.target(slot),
                    .load = seen.loads[slot],
                    .load_age_seconds = std::nullopt,
                    .first_token_seconds = std::nullopt,
                    .held_blocks = slot < held.size() ? held[slot] : 0,
                    .total_blocks = std::nullopt,
                    .draining = worker.draining,
                    .sink = {},
                    .stream = std::nullopt};
  if (const std::uint64_t blocks = targets_.total_blocks()[slot]; blocks > 0) {
    stats.total_blocks = blocks;
  }
  const Window::Total first_tokens =
      seen.histories[slot].first_tokens.total(seen.now, seen.fleet.window_seconds);
  if (first_tokens.count > 0) stats.first_token_seconds = first_tokens.mean();
  if (stats.load.reports > 0) {
    stats.load_age_seconds = ns_to_seconds(seen.now - stats.load.reported_at);
  }
  const Feed& feed = feeds_.at(worker.name);
  if (feed.sink) {
    stats.sink = feed.sink->stats(static_cast<std::uint32_t>(rank));
    stats.stream = subscriber_->stats(feed.kv_streams[rank]);
  }
  return stats;
}

RouterStats Router::Impl::stats() const {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  expire(now());
  while (expire_bookings()) {  // giving back the lock between some and more
  }
  RouterStats stats;
  std::map<std::uint32_t, std::vector<std::size_t>> held;  // by block size, then by slot
  indexes_.for_each([&](std::uint32_t block_size, const PrefixTree& tree) {
    tree.held_blocks(held[block_size]);
  });
  const SeenLoads seen = see_loads();
  std::map<std::uint32_t, std::size_t> users;
  for (const detail::Worker* worker : targets_.workers()) {
    users[worker->block_size] += worker->slots.size();
    for (std::size_t rank = 0; rank < worker->slots.size(); ++rank) {
      stats.targets.push_back(target_stats(*worker, rank, held[worker->block_size], seen));
    }
  }
  indexes_.for_each([&](std::uint32_t block_size, const PrefixTree& tree) {
    stats.indexes.push_back({.block_size = block_size,
                             .targets = users[block_size],
                             .memory_limit = indexes_.share_of(indexes_.size()),
                             .stats = tree.stats()});
  });
  stats.reservations = seen.bookings;
  stats.expired_reservations = seen.expired;
  stats.selections = seen.selections;
  stats.policy_fallbacks = seen.policy_fallbacks;
  return stats;
}

}  // namespace kvroute
