#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/base/phase_fair_mutex.h"
#include "kvroute/index/index_stats.h"
#include "kvroute/index/prefix_tree.h"

namespace kvroute {

/// One event of a batch for PrefixIndex::apply.
struct IndexEvent {
  enum class Kind : std::uint8_t { store, remove, clear };
  Kind kind = Kind::store;
  TargetId target = {};
  Tier tier = Tier::device;
  std::optional<std::uint64_t> parent = {};           ///< store only
  std::span<const std::uint64_t> engine_hashes = {};  ///< store and remove
  std::span<const std::uint64_t> local_hashes = {};  ///< store only; empty: PrefixTree::store_known
};

/// What became of a batch, in blocks.
struct ApplyResult {
  std::uint64_t stored = 0;      ///< newly held, adopted ones included
  std::uint64_t duplicates = 0;  ///< already held, under the same or another engine hash
  std::uint64_t removed = 0;     ///< no longer held
  std::uint64_t waiting = 0;     ///< put aside until their parent comes
  std::uint64_t unknown = 0;     ///< engine hashes that the target neither held nor had waiting
};

/// Reachable depths of all targets for one request; the arrays have one entry a target.
struct TargetDepths {
  std::vector<TargetId> targets;
  std::array<std::vector<std::uint32_t>, kTiers> depths;  ///< [i]: tiers up to i, cumulative
};

/// A prefix tree for those who name targets instead of numbering them: what each (worker, rank)
/// holds, of one block size, fed and asked in hashes. A target exists from its first store until
/// its worker is removed. Thread-safe, as the tree is; no call makes others wait for a sweep.
class PrefixIndex {
 public:
  /// \throws InvalidArgument if an option is out of its range
  explicit PrefixIndex(const IndexOptions& options);

  /// \throws InvalidArgument if the spans differ in length, or for one target too many
  StoreResult store(const TargetId& target, std::optional<std::uint64_t> parent,
                    std::span<const std::uint64_t> engine_hashes,
                    std::span<const std::uint64_t> local_hashes, Tier tier = Tier::device);

  /// PrefixTree::store_known. A target that has stored nothing knows no name.
  StoreResult store_known(const TargetId& target, std::span<const std::uint64_t> engine_hashes,
                          Tier tier);

  /// A target that has stored nothing holds nothing: every hash is unknown.
  RemoveResult remove(const TargetId& target, std::span<const std::uint64_t> engine_hashes,
                      Tier tier = Tier::device);

  /// The events in their order, each as by its own call. Checks all of them first.
  /// \throws InvalidArgument as `store` does, naming the event; then none was applied. For one
  /// target too many, those before it were.
  ApplyResult apply(std::span<const IndexEvent> events);

  /// Everything that the worker, or one of its ranks, holds is gone. Nothing happens to one that
  /// has stored nothing.
  void clear(const WorkerName& worker, std::optional<std::uint32_t> dp_rank);

  /// Forgets the worker and its targets. \throws UnknownWorker if it has stored nothing
  void remove_worker(const WorkerName& worker);

  /// Reachable depth, in blocks, of each target that holds at least the first block; in the order
  /// in which their slots were given.
  [[nodiscard]] std::vector<std::pair<TargetId, std::uint32_t>> match(
      std::span<const std::uint64_t> local_hashes) const;

  /// The same as arrays, for every target that the index knows, with each further tier.
  [[nodiscard]] TargetDepths overlaps(std::span<const std::uint64_t> local_hashes) const;

  /// `match` for many requests; each answer as of some moment during the call.
  [[nodiscard]] std::vector<std::vector<std::pair<TargetId, std::uint32_t>>> match_many(
      std::span<const std::span<const std::uint64_t>> requests) const;

  /// PrefixTree::for_each_held with the chain's target. Targets neither come nor go meanwhile.
  void for_each_held(const std::function<void(const TargetId&, const HeldChain&)>& visit) const;

  /// Everything that the index holds, targets included (see PrefixTree::snapshot). Targets neither
  /// come nor go meanwhile.
  [[nodiscard]] std::string snapshot() const;
  /// Replaces everything by a snapshot's content; what others store meanwhile is replaced too, and
  /// counters begin anew. Matches answer from the old content until the new one is whole, so that
  /// both are in memory for a time.
  /// \throws InvalidArgument if the bytes are damaged, foreign or of another version; the index is
  /// then as it was
  void restore(std::string_view snapshot);

  [[nodiscard]] std::vector<TargetId> targets() const;
  [[nodiscard]] IndexStats stats() const;
  /// PrefixTree::audit, and that names and slots agree.
  [[nodiscard]] std::optional<std::string> audit() const;

 private:
  /// What a slot stands for. A slot without a target that is still being swept is not given away.
  struct Place {
    std::optional<TargetId> target;
    std::uint32_t sweeps = 0;  ///< under way, of this slot
  };

  [[nodiscard]] std::optional<Slot> find(const TargetId& target) const;
  [[nodiscard]] std::optional<Slot> look_up(const TargetId& target) const;
  [[nodiscard]] std::vector<Slot> slots_of(const WorkerName& worker,
                                           std::optional<std::uint32_t> dp_rank) const;
  void take_slot(const TargetId& target);
  void sweep(const WorkerName& worker, std::optional<std::uint32_t> dp_rank, bool forget);
  [[nodiscard]] std::vector<std::optional<TargetId>> names() const;
  static void release_unnamed(PrefixTree& tree, std::span<const Place> places);

  IndexOptions options_;
  // In this order. `membership_` is held by whoever changes the names, and as long as they must not
  // change. `in_use_` is shared while an event is applied to a slot that was looked up, which may
  // wait for other events; it is held alone to take slots or the tree away. `mutex_`, of what
  // follows, is shared by matches, and held alone for no longer than a change of names takes.
  mutable std::mutex membership_;
  PhaseFairMutex in_use_;
  mutable PhaseFairMutex mutex_;
  std::shared_ptr<PrefixTree> tree_;
  std::unordered_map<TargetId, Slot> slots_;
  std::vector<Place> places_;  // by slot
};

}  // namespace kvroute
