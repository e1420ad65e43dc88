#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "index/node_tree.h"
#include "index/slot_names.h"
#include "kvroute/base/phase_fair_mutex.h"
#include "kvroute/base/random.h"
#include "kvroute/index/prefix_tree.h"

namespace kvroute::detail {

/// What a PrefixTree is made of: the tree, the names of each slot, and two locks.
///
/// Writers hold `writers_` throughout, in the order in which they came, so that names and
/// bookkeeping need no other lock (a sweep lets go of it between its steps); they take
/// `tree_lock_` alone only to change what a match reads (nodes, edges, coverage, pins). A match
/// takes `tree_lock_` shared and nothing else.
class TreeCore {
 public:
  explicit TreeCore(const IndexOptions& options);

  StoreResult store(Slot slot, std::optional<std::uint64_t> parent,
                    std::span<const std::uint64_t> names, std::span<const std::uint64_t> labels,
                    std::uint64_t namespace_seed);
  RemoveResult remove(Slot slot, std::span<const std::uint64_t> names);
  void clear(Slot slot, bool release);

  std::uint32_t predict(Slot slot, std::span<const std::uint64_t> labels, Nanoseconds now);
  std::size_t expire(Nanoseconds now);
  PinResult pin(Slot slot, std::span<const std::uint64_t> labels);
  std::uint32_t unpin(Slot slot, Pin pin);

  void set_memory_limit(std::optional<std::size_t> limit);

  void match(std::span<const std::uint64_t> labels, Overlaps& out) const;

  [[nodiscard]] std::optional<std::uint64_t> namespace_seed_of(Slot slot, std::uint64_t name) const;
  [[nodiscard]] std::size_t held_blocks(Slot slot) const;
  void held_blocks(std::vector<std::size_t>& by_slot) const;
  [[nodiscard]] IndexStats stats() const;
  [[nodiscard]] std::optional<std::string> audit() const;

 private:
  struct SlotState {
    explicit SlotState(std::size_t* bytes) : names(bytes) {}
    SlotNames names;
    std::size_t held = 0;       // exact and predicted
    std::size_t predicted = 0;  // of them
  };

  // tree_core.cc
  SlotState& state_of(Slot slot);
  [[nodiscard]] const SlotState* find_state(Slot slot) const;
  void find_path(NodeId from, std::uint32_t consumed, std::span<const std::uint64_t> labels,
                 Slot slot);

  // core_events.cc
  void note_exact(Slot slot, const Segment& segment);
  bool name_path(SlotState& state, std::span<const std::uint64_t> names, StoreResult& result);
  void take_name(SlotState& state, std::uint64_t name, BlockId from, StoreResult& result,
                 bool& path_changed);
  [[nodiscard]] std::optional<std::size_t> index_in_path(BlockId block) const;
  void hold_path(Slot slot, SlotState& state, std::uint64_t namespace_seed, bool path_changed,
                 StoreResult& result);
  void hold(Slot slot, SlotState& state, NodeId id, std::uint32_t begin, std::uint32_t end,
            StoreResult& result);
  std::uint32_t let_go(Slot slot, SlotState& state, NodeId id, std::uint32_t begin,
                       std::uint32_t end);
  void let_go_blocks(Slot slot, SlotState& state, std::span<const BlockId> blocks);

  // core_clear.cc
  /// Where a sweep goes on: at the first `end` blocks of the node.
  struct SweepPlace {
    NodeId node = 1;
    std::uint32_t end = kWholeNode;
    [[nodiscard]] bool done(const NodeTree& tree) const { return node >= tree.id_end(); }
  };
  static constexpr std::size_t kNoBound = ~std::size_t{0};
  static constexpr std::uint32_t kWholeNode = ~std::uint32_t{0};
  void clear_some(Slot slot, SlotState& state, SweepPlace& place);

  // core_requests.cc
  std::uint32_t predict_segment(Slot slot, SlotState& state, const Segment& segment,
                                Nanoseconds deadline);
  std::size_t expire_node(NodeId id, Nanoseconds now);

  // core_limit.cc
  bool enforce_limit(NodeId newest, std::size_t most_leaves);
  [[nodiscard]] std::optional<NodeId> choose_victim(NodeId newest);
  [[nodiscard]] bool forgettable(NodeId id) const;
  void forget_suffix(NodeId id);
  void forget_names(Slot slot, NodeId id, std::uint32_t begin);
  bool shrink_all_tables();

  // core_audit.cc
  [[nodiscard]] std::optional<std::string> audit_node(NodeId id) const;
  [[nodiscard]] std::optional<std::string> audit_slot(Slot slot) const;
  [[nodiscard]] std::optional<std::string> audit_totals() const;

  const IndexOptions options_;
  const Nanoseconds predicted_ttl_;

  mutable PhaseFairMutex writers_;
  mutable PhaseFairMutex tree_lock_;
  std::optional<std::size_t> limit_;

  IndexBytes bytes_;
  NodeTree tree_{bytes_};
  std::vector<std::unique_ptr<SlotState>> slots_;
  std::uint32_t slot_count_ = 0;        // guarded by tree_lock_ for readers
  std::atomic<std::uint64_t> tick_{0};  // counts insertions; the time of `last_use`
  IndexStats counters_;                 // only the counters are kept here
  Random random_{0x6b76726f757465};     // samples victims

  NodeId scan_at_ = 1;       // where the search for a victim goes on
  bool all_in_use_ = false;  // no leaf could be forgotten when last searched

  // Scratch of the writer whose turn it is.
  std::vector<Segment> path_;
  std::vector<std::uint8_t> exact_;  // one entry a block of path_: 1 held exactly, 2 newly so
  std::vector<BlockId> lost_;
  std::vector<NodeId> touched_;
};

}  // namespace kvroute::detail
