#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "index/accounting.h"
#include "index/predicted_ranges.h"
#include "index/run_store.h"
#include "kvroute/base/ids.h"

namespace kvroute::detail {

/// The capacities of slots, and in which order predicted blocks of slots that have one go: least
/// recently predicted first, of one prediction the deepest first. Each prediction is one instant.
///
/// A record says that a node has blocks that its slot's prediction of that instant was the last to
/// cover. It may be out of date: those blocks have been predicted again, confirmed or forgotten, or
/// another record of the same blocks was served. Whoever takes one out looks at the node. Records
/// that have nothing to say are swept out once they may be the greater part. Not synchronised.
class CapacityQueue {
 public:
  struct Record {
    Nanoseconds instant;
    std::uint32_t end;  ///< depth, from the root, at which the blocks end
    NodeId node;
  };

  explicit CapacityQueue(std::size_t* bytes)
      : bytes_(bytes), slots_(CountingAllocator<Queue>(bytes)) {}

  /// The instant of one more prediction: later than all before it, and not a time.
  [[nodiscard]] Nanoseconds next_instant() noexcept { return next_instant_++; }
  /// Instants up to and including this one have been given out elsewhere (in a snapshot).
  /// \throws InvalidArgument for one so late that snapshots with those after it could be refused
  void skip_to(Nanoseconds instant);

  /// O(log records), or O(1) for the newest instant.
  void push(Slot slot, const Record& record) {
    Records& records = of(slot).records;
    records.push_back(record);
    std::push_heap(records.begin(), records.end(), later);
  }

  /// Takes out the slot's record that is to be served first. O(log records).
  [[nodiscard]] std::optional<Record> pop(Slot slot);

  /// The blocks of a record that was taken out are in use by running requests, and stay for now.
  /// No record stands for them until one is pushed, when they are no longer in use.
  void pass_over(Slot slot, Nanoseconds instant) {
    Nanoseconds& latest = of(slot).passed_over;
    latest = std::max(latest, instant);
  }
  /// Blocks of the slot of this instant may have been passed over.
  [[nodiscard]] bool may_have_passed_over(Slot slot, Nanoseconds instant) const noexcept {
    return slot < slots_.size() && instant <= slots_[slot].passed_over;
  }

  /// Drops records for which `is_valid(record)` is false, and repetitions, if many have been pushed
  /// since the last time. It is asked for all records of a node in a row. Amortised O(log records)
  /// a push.
  template <typename IsValid>
  void sweep(Slot slot, IsValid is_valid) {
    Queue& queue = of(slot);
    if (queue.records.size() <= 2 * queue.swept_size + kSlack) return;
    std::sort(queue.records.begin(), queue.records.end(),
              [](const Record& a, const Record& b) { return a.node < b.node; });
    std::erase_if(queue.records, [&](const Record& record) { return !is_valid(record); });
    finish_sweep(queue);
  }

  /// The slot has no predicted blocks any more.
  void clear(Slot slot);

  /// Most blocks that are predicted for the slot; absent: no such bound.
  void set_capacity(Slot slot, std::optional<std::uint32_t> blocks) {
    if (blocks || slot < slots_.size()) of(slot).capacity = blocks;
  }
  [[nodiscard]] std::optional<std::uint32_t> capacity(Slot slot) const noexcept {
    return slot < slots_.size() ? slots_[slot].capacity : std::nullopt;
  }
  /// The capacities become those of `other`.
  void take_capacities(const CapacityQueue& other);

  template <typename Visit>
  void for_each(Slot slot, Visit visit) const {
    if (slot >= slots_.size()) return;
    for (const Record& record : slots_[slot].records) visit(record);
  }

 private:
  static constexpr std::size_t kSlack = 64;

  using Records = std::vector<Record, CountingAllocator<Record>>;
  struct Queue {
    explicit Queue(std::size_t* bytes) : records(CountingAllocator<Record>(bytes)) {}
    Records records;             // a heap, the first to be served on top
    std::size_t swept_size = 0;  // records after the last sweep
    Nanoseconds passed_over = 0;
    std::optional<std::uint32_t> capacity;
  };

  static bool later(const Record& a, const Record& b) noexcept {
    return a.instant != b.instant ? a.instant > b.instant : a.end < b.end;
  }
  [[nodiscard]] Queue& of(Slot slot);
  static void finish_sweep(Queue& queue);

  std::size_t* bytes_;
  std::vector<Queue, CountingAllocator<Queue>> slots_;
  Nanoseconds next_instant_ = kFirstInstant;
};

}  // namespace kvroute::detail
