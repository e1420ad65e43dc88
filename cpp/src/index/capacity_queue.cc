#include "index/capacity_queue.h"

#include <string>
#include <tuple>

#include "index/snapshot_bytes.h"

namespace kvroute::detail {

void CapacityQueue::skip_to(Nanoseconds instant) {
  constexpr Nanoseconds kMost = kFirstInstant / 4;
  if (instant - kFirstInstant > kMost) {
    refuse_snapshot("predictions numbered up to " + std::to_string(kMost),
                    std::to_string(instant - kFirstInstant));
  }
  next_instant_ = std::max(next_instant_, instant + 1);
}

CapacityQueue::Queue& CapacityQueue::of(Slot slot) {
  while (slots_.size() <= slot) slots_.emplace_back(bytes_);
  return slots_[slot];
}

std::optional<CapacityQueue::Record> CapacityQueue::pop(Slot slot) {
  if (slot >= slots_.size() || slots_[slot].records.empty()) return std::nullopt;
  Records& records = slots_[slot].records;
  std::pop_heap(records.begin(), records.end(), later);
  const Record record = records.back();
  records.pop_back();
  return record;
}

void CapacityQueue::clear(Slot slot) {
  if (slot >= slots_.size()) return;
  Queue& queue = slots_[slot];
  const std::optional<std::uint32_t> capacity = queue.capacity;
  queue = Queue(bytes_);
  queue.capacity = capacity;
}

void CapacityQueue::take_capacities(const CapacityQueue& other) {
  for (Slot slot = 0; slot < std::max(slots_.size(), other.slots_.size()); ++slot) {
    set_capacity(slot, other.capacity(slot));
  }
}

/// What is left goes into order, which is a heap too, so that repetitions are neighbours. Of these
/// the deepest stays: it is served when it should be.
void CapacityQueue::finish_sweep(Queue& queue) {
  Records& records = queue.records;
  const auto by_place = [](const Record& r) { return std::tuple(r.instant, r.node, ~r.end); };
  std::sort(records.begin(), records.end(),
            [&](const Record& a, const Record& b) { return by_place(a) < by_place(b); });
  const auto same = [](const Record& a, const Record& b) {
    return a.instant == b.instant && a.node == b.node;
  };
  records.erase(std::unique(records.begin(), records.end(), same), records.end());
  std::make_heap(records.begin(), records.end(), later);
  records.shrink_to_fit();
  queue.swept_size = records.size();
}

}  // namespace kvroute::detail
