#pragma once

#include <absl/container/flat_hash_set.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "index/heap_relief.h"
#include "index/holder.h"
#include "index/node_tree.h"
#include "index/waiting_room.h"
#include "kvroute/base/phase_fair_mutex.h"
#include "kvroute/base/random.h"
#include "kvroute/index/prefix_tree.h"

namespace kvroute::detail {

class SnapshotReader;
class SnapshotWriter;

/// What a PrefixTree is made of: the tree, the names of blocks, what waits, and two locks.
///
/// Writers hold `writers_` throughout, one at a time, so that names and bookkeeping need no other
/// lock (a sweep gives way between its steps); they take `tree_lock_` alone only to change what a
/// match reads (nodes, edges, coverage, pins). A match takes `tree_lock_` shared and nothing else.
///
/// Names. A block has a shared name, that of whoever announced it first; `shared_` leads from it to
/// the block, for all lanes. A lane *agrees* on a block that it holds exactly unless it has a name
/// of its own there. So what most engines' events need is coverage alone, and one table for all.
/// A shared name that no agreeing lane needs any more stays until the block goes or another name
/// needs its place.
class TreeCore {
 public:
  /// `most_granules`: for tests of what happens where ids run short.
  explicit TreeCore(const IndexOptions& options,
                    std::size_t most_granules = RunStore::kMostGranules);

  StoreResult store(LaneId lane, std::optional<std::uint64_t> parent,
                    std::span<const std::uint64_t> names, std::span<const std::uint64_t> labels,
                    std::uint64_t namespace_seed);
  StoreResult store_known(LaneId lane, std::span<const std::uint64_t> names);
  RemoveResult remove(LaneId lane, std::span<const std::uint64_t> names);
  void clear(Slot slot, bool release);
  void clear(Slot slot, Tier tier);
  void set_capacity(Slot slot, std::optional<std::uint32_t> blocks);

  std::uint32_t predict(Slot slot, std::span<const std::uint64_t> labels, Nanoseconds now);
  std::size_t expire(Nanoseconds now);
  PinResult pin(Slot slot, std::span<const std::uint64_t> labels);
  std::uint32_t unpin(Slot slot, Pin pin);

  void set_memory_limit(std::optional<std::size_t> limit);

  void match(std::span<const std::uint64_t> labels, Overlaps& out, Tier deepest) const;
  void for_each_held(const std::function<void(const HeldChain&)>& visit) const;

  [[nodiscard]] std::string snapshot(Nanoseconds now) const;
  void restore(std::string_view snapshot, Nanoseconds now);

  [[nodiscard]] std::optional<std::uint64_t> namespace_seed_of(Slot slot, std::uint64_t name) const;
  [[nodiscard]] std::size_t held_blocks(Slot slot) const;
  void held_blocks(std::vector<std::size_t>& by_slot) const;
  [[nodiscard]] IndexStats stats() const;
  [[nodiscard]] std::optional<std::string> audit() const;

 private:
  /// Blocks [begin, end) of a run.
  struct RunRange {
    RunId run;
    std::uint32_t begin;
    std::uint32_t end;
  };

  // tree_core.cc
  [[nodiscard]] Holder& holder_of(LaneId lane);
  [[nodiscard]] const Holder* find_holder(LaneId lane) const;
  [[nodiscard]] Holder* find_holder(LaneId lane);
  void find_path(NodeId from, std::uint32_t consumed, std::span<const std::uint64_t> labels);
  [[nodiscard]] bool has_ids_for(std::size_t blocks) const;
  void note_exact(LaneId lane, const Segment& segment);
  void update_shared_names();
  void forget_in_steps();
  void relieve_heap();
  void note_lower(Slot slot);
  [[nodiscard]] std::uint32_t next_tick() noexcept {
    return tick_.fetch_add(1, std::memory_order_relaxed) + 1;
  }
  [[nodiscard]] std::span<const std::uint64_t> stored_form(std::span<const std::uint64_t> names);
  [[nodiscard]] static std::uint64_t stored_form(std::uint64_t name) noexcept;
  [[nodiscard]] static std::uint64_t given_form(std::uint64_t name) noexcept;

  // core_match.cc
  [[nodiscard]] NodeId next_on_way(NodeId from, std::span<const std::uint64_t> labels,
                                   std::uint32_t& same) const;
  void match_lower(std::span<const std::uint64_t> labels, Overlaps& out, Tier deepest) const;
  [[nodiscard]] std::uint32_t depth_within(std::span<const std::uint64_t> labels, Slot slot,
                                           Tier tier) const;

  // core_names.cc
  [[nodiscard]] BlockId find_name(LaneId lane, const Holder& holder, std::uint64_t name) const;
  [[nodiscard]] BlockId find_unshared(LaneId lane, const Holder& holder, std::uint64_t name) const;
  [[nodiscard]] BlockId find_in_any_tier(Slot slot, std::uint64_t name) const;
  [[nodiscard]] BlockId find_shared(std::uint64_t name) const;
  [[nodiscard]] bool agrees_on(LaneId lane, RunStore::Position at) const;
  [[nodiscard]] bool holds_exactly(LaneId lane, BlockId block) const;
  [[nodiscard]] std::uint64_t first_name(LaneId lane, RunStore::Position at) const;
  [[nodiscard]] bool shared_name_needed(BlockId block, LaneId but) const;
  void set_own_name(LaneId lane, Holder& holder, BlockId block, std::uint64_t name,
                    std::uint32_t until);
  void clear_own_name(LaneId lane, Holder& holder, RunStore::Position at);
  bool drop_name(LaneId lane, Holder& holder, BlockId block, std::uint64_t name);
  void drop_names(LaneId lane, Holder& holder, RunId run, std::uint32_t begin, std::uint32_t end);
  std::uint32_t drop_exact_names(LaneId lane, Holder& holder, const Segment& segment);
  [[nodiscard]] OddNames& odd_names(Holder& holder);
  void tidy_odd_names(Holder& holder);

  // core_naming.cc: the names of an event's path
  bool name_path(LaneId lane, Holder& holder, std::span<const std::uint64_t> names,
                 StoreResult& result);
  std::uint32_t name_range(Holder& holder, const Segment& segment, std::size_t first,
                           std::span<const std::uint64_t> names, StoreResult& result);
  void name_block(LaneId lane, Holder& holder, std::size_t index, BlockId block,
                  std::uint32_t run_end, std::uint64_t name, StoreResult& result);
  void give_first_name(LaneId lane, Holder& holder, BlockId block, std::uint32_t run_end,
                       std::uint64_t name);
  [[nodiscard]] BlockId known_by_now(LaneId lane, const Holder& holder, std::uint64_t name) const;
  [[nodiscard]] bool held_by_now(LaneId lane, BlockId block) const;
  [[nodiscard]] bool shared_name_needed_now(LaneId lane, BlockId block) const;
  [[nodiscard]] std::optional<std::size_t> index_in_path(BlockId block) const;

  // core_store.cc
  StoreResult store_below(LaneId lane, NodeId from, std::uint32_t consumed,
                          std::span<const std::uint64_t> names,
                          std::span<const std::uint64_t> labels, std::uint64_t namespace_seed);
  StoreResult store_path(LaneId lane, std::span<const std::uint64_t> names,
                         std::optional<std::uint64_t> namespace_seed);
  void hold_path(LaneId lane, Holder& holder, std::optional<std::uint64_t> namespace_seed,
                 bool path_changed, StoreResult& result);
  void hold(LaneId lane, Holder& holder, NodeId id, std::uint32_t begin, std::uint32_t end,
            StoreResult& result);
  void wait_for_parent(LaneId lane, std::uint64_t parent, std::span<const std::uint64_t> names,
                       std::span<const std::uint64_t> labels, std::uint64_t namespace_seed,
                       StoreResult& result);
  std::uint32_t adopt(Slot slot, std::span<const std::uint64_t> names);

  // core_remove.cc
  RemoveResult remove_held(LaneId lane, std::span<const std::uint64_t> names, bool waiting_too);
  void find_ranges(LaneId lane, Holder& holder, std::span<const std::uint64_t> names,
                   RemoveResult& result);
  std::uint32_t remove_range(LaneId lane, Holder& holder, const RunRange& range);
  void remove_one_by_one(LaneId lane, Holder& holder, std::span<const std::uint64_t> names,
                         bool waiting_too, RemoveResult& result);
  bool remove_one(LaneId lane, Holder& holder, std::uint64_t name, RemoveResult& result);
  std::uint32_t let_go(LaneId lane, Holder& holder, NodeId id, std::uint32_t begin,
                       std::uint32_t end);
  void tidy_touched();

  // core_clear.cc
  /// Where a sweep goes on: at the first `end` blocks of the node.
  struct SweepPlace {
    NodeId node = 1;
    std::uint32_t end = kWholeNode;
    [[nodiscard]] bool done(const NodeTree& tree) const { return node >= tree.id_end(); }
  };
  static constexpr std::size_t kNoBound = ~std::size_t{0};
  static constexpr std::uint32_t kWholeNode = ~std::uint32_t{0};
  void clear_lane(LaneId lane, bool release);
  void clear_some(LaneId lane, Holder& holder, SweepPlace& place);

  // core_dump.cc
  /// Blocks [begin, end) of a node that a lane holds exactly.
  struct Stretch {
    LaneId lane;
    std::uint32_t begin;
    std::uint32_t end;
  };
  void find_stretches(NodeId id, std::vector<Stretch>& stretches) const;
  void note_parent(Slot slot, NodeId id, std::uint32_t begin, HeldChain& chain) const;

  // core_snapshot.cc
  [[nodiscard]] std::vector<NodeId> first_nodes() const;
  void write_odd_names(const std::unordered_map<NodeId, std::uint32_t>& ordinals,
                       SnapshotWriter& out) const;

  // core_restore.cc
  void load(SnapshotReader in, Nanoseconds now);
  RunId load_run(SnapshotReader& in, std::vector<NodeId>& nodes);
  void load_node(SnapshotReader& in, NodeId id, Nanoseconds now);
  void load_holder(SnapshotReader& in, NodeId id, Tier tier, std::uint32_t& least);
  void load_prediction(SnapshotReader& in, NodeId id, Nanoseconds now);
  void load_chain(SnapshotReader& in);
  void check_size(const SnapshotReader& in) const;

  // core_restore_names.cc
  void load_own_names(SnapshotReader& in, RunId run);
  void load_odd_names(SnapshotReader& in, const std::vector<NodeId>& nodes);
  void check_own_names(RunId run) const;

  // core_predict.cc
  std::uint32_t predict_segment(Slot slot, Holder& holder, const Segment& segment,
                                Nanoseconds deadline);
  std::size_t expire_node(NodeId id, Nanoseconds now);

  // core_capacity.cc
  void end_outlived(Slot slot, Holder& holder);
  void end_outlived_in(Slot slot, Holder& holder, const CapacityQueue::Record& record,
                       std::uint32_t excess);
  [[nodiscard]] std::optional<std::string> audit_capacities() const;

  // core_limit.cc
  bool enforce_limit(NodeId newest, std::size_t most_leaves);
  [[nodiscard]] std::optional<NodeId> choose_victim(NodeId newest);
  [[nodiscard]] bool ids_run_short() const;
  [[nodiscard]] bool forgettable(NodeId id) const;
  void forget_suffix(NodeId id);

  // core_audit.cc
  [[nodiscard]] std::optional<std::string> audit_node(NodeId id) const;
  [[nodiscard]] std::optional<std::string> audit_all_pins() const;
  [[nodiscard]] std::optional<std::string> audit_totals() const;

  // core_audit_names.cc
  [[nodiscard]] std::optional<std::string> audit_lane(LaneId lane) const;
  [[nodiscard]] std::optional<std::string> audit_odd_names(LaneId lane, const Holder& holder) const;
  [[nodiscard]] std::optional<std::string> audit_shared_names() const;

  const IndexOptions options_;
  const std::size_t most_granules_;
  const Nanoseconds predicted_ttl_;

  mutable PhaseFairMutex writers_;
  mutable PhaseFairMutex tree_lock_;
  std::optional<std::size_t> limit_;

  // What `restore` replaces as a whole.
  std::unique_ptr<IndexBytes> bytes_ = std::make_unique<IndexBytes>();
  std::unique_ptr<NodeTree> tree_ = std::make_unique<NodeTree>(*bytes_);
  IdTable shared_{&bytes_->names};                                    // from shared names to blocks
  std::array<std::vector<std::unique_ptr<Holder>>, kTiers> holders_;  // by tier and slot
  std::unique_ptr<WaitingRoom> waiting_;

  // Guarded by tree_lock_ for readers.
  std::uint32_t slot_count_ = 0;
  std::size_t pins_ = 0;
  std::vector<Slot> lower_slots_;  // those that hold anything below the device, ascending

  HeapRelief heap_;
  std::atomic<std::uint32_t> tick_{0};  // counts insertions; the time of `last_use`
  IndexStats counters_;                 // only the counters are kept here
  Random random_{0x6b76726f757465};     // samples victims

  NodeId scan_at_ = 1;       // where the search for a victim goes on
  bool all_in_use_ = false;  // no leaf could be forgotten when last searched

  // Scratch of the writer whose turn it is.
  std::vector<Segment> path_;
  std::vector<std::uint8_t> exact_;    // one entry a block of path_: 1 held exactly, 2 newly so
  absl::flat_hash_set<BlockId> lost_;  // blocks outside of path_ that have lost their last name
  std::vector<RunRange> ranges_;
  std::vector<NodeId> touched_;
  std::vector<std::uint64_t> names_;
};

}  // namespace kvroute::detail
