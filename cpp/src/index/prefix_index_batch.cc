#include <string>

#include "kvroute/base/error.h"
#include "kvroute/index/prefix_index.h"

namespace kvroute {
namespace {

void check(const IndexEvent& event, std::size_t position) {
  if (event.kind != IndexEvent::Kind::store || event.local_hashes.empty() ||
      event.local_hashes.size() == event.engine_hashes.size()) {
    return;
  }
  throw InvalidArgument("events[" + std::to_string(position) +
                        "].local_hashes: expected as many as engine_hashes (" +
                        std::to_string(event.engine_hashes.size()) + "), got " +
                        std::to_string(event.local_hashes.size()));
}

void add(const StoreResult& store, ApplyResult& sum) {
  sum.stored += std::uint64_t{store.applied} + store.adopted;
  sum.duplicates += std::uint64_t{store.duplicates} + store.aliased;
  sum.waiting += store.waiting;
  sum.unknown += store.unknown;
}

void add(const RemoveResult& remove, ApplyResult& sum) {
  sum.removed += remove.removed;
  sum.unknown += remove.unknown;
}

}  // namespace

ApplyResult PrefixIndex::apply(std::span<const IndexEvent> events) {
  for (std::size_t i = 0; i < events.size(); ++i) check(events[i], i);
  ApplyResult sum;
  for (const IndexEvent& event : events) {
    switch (event.kind) {
      case IndexEvent::Kind::store:
        add(event.local_hashes.empty() ? store_known(event.target, event.engine_hashes, event.tier)
                                       : store(event.target, event.parent, event.engine_hashes,
                                               event.local_hashes, event.tier),
            sum);
        break;
      case IndexEvent::Kind::remove:
        add(remove(event.target, event.engine_hashes, event.tier), sum);
        break;
      case IndexEvent::Kind::clear: clear(event.target.worker, event.target.dp_rank); break;
    }
  }
  return sum;
}

}  // namespace kvroute
