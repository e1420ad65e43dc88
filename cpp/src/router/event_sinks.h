#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/events/event_sink.h"
#include "kvroute/index/prefix_tree.h"
#include "kvroute/router/router_stats.h"

namespace kvroute::detail {

/// Brings one worker's events into the prefix tree: hashes tokens under their namespace and stores
/// them in their tier for the slot of the event's rank. An event without tokens says where blocks
/// lie that are known already.
class IndexSink final : public EventSink {
 public:
  /// `slots` by rank; `worker` names it in the log.
  IndexSink(std::string worker, std::shared_ptr<PrefixTree> tree, std::vector<Slot> slots);

  void on_stored(std::uint32_t dp_rank, const BlockStored& event) override;
  void on_removed(std::uint32_t dp_rank, const BlockRemoved& event) override;
  void on_cleared(std::uint32_t dp_rank, Tier tier) override;
  void on_invalidated(std::uint32_t dp_rank, InvalidationReason reason) override;

  /// Thread-safe; `dp_rank` is one of the worker's.
  [[nodiscard]] SinkStats stats(std::uint32_t dp_rank) const;

 private:
  struct Counters {
    std::atomic<std::uint64_t> stored_blocks{0};
    std::atomic<std::uint64_t> removed_blocks{0};
    std::atomic<std::uint64_t> stored_lower{0};
    std::atomic<std::uint64_t> removed_lower{0};
    std::atomic<std::uint64_t> duplicates{0};
    std::atomic<std::uint64_t> unknown_parents{0};
    std::atomic<std::uint64_t> unknown_blocks{0};
    std::atomic<std::uint64_t> clears{0};
    std::atomic<std::uint64_t> ignored{0};
  };

  /// The worker's rank that an event's rank stands for. A worker of one rank takes all events as
  /// its own: an engine of a data-parallel group that is a worker by itself names its rank in the
  /// group. Otherwise a rank that the worker was not added with is counted, and logged once.
  [[nodiscard]] std::optional<std::uint32_t> known(std::uint32_t dp_rank);
  [[nodiscard]] std::uint64_t seed_of(Slot slot, const BlockStored& event) const;
  void hash(const BlockStored& event, std::uint64_t seed);
  StoreResult store(Slot slot, const BlockStored& event);

  std::string worker_;
  std::shared_ptr<PrefixTree> tree_;
  std::vector<Slot> slots_;
  std::vector<Counters> counters_;     // by rank
  std::vector<std::uint64_t> hashes_;  // scratch of the event thread
};

/// Brings one worker's load reports to whoever keeps them.
class LoadReportSink final : public LoadSink {
 public:
  using Take = std::function<void(Slot, const LoadReport&)>;

  LoadReportSink(std::vector<Slot> slots, Take take)
      : slots_(std::move(slots)), take_(std::move(take)) {}

  void on_load(std::uint32_t dp_rank, const LoadReport& report) override {
    if (slots_.size() == 1) dp_rank = 0;
    if (dp_rank < slots_.size()) take_(slots_[dp_rank], report);
  }

 private:
  std::vector<Slot> slots_;
  Take take_;
};

}  // namespace kvroute::detail
