#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/base/phase_fair_mutex.h"
#include "kvroute/index/index_stats.h"
#include "kvroute/index/prefix_tree.h"

namespace kvroute {

/// A prefix tree for those who name targets instead of numbering them: what each (worker, rank)
/// holds, of one block size, fed and asked in hashes. A target exists from its first store until
/// its worker is removed. Thread-safe, as the tree is.
class PrefixIndex {
 public:
  /// \throws InvalidArgument if an option is out of its range
  explicit PrefixIndex(const IndexOptions& options) : tree_(options) {}

  /// \throws InvalidArgument if the spans differ in length, or for one target too many
  StoreResult store(const TargetId& target, std::optional<std::uint64_t> parent,
                    std::span<const std::uint64_t> engine_hashes,
                    std::span<const std::uint64_t> local_hashes);

  /// A target that has stored nothing holds nothing: every hash is unknown.
  RemoveResult remove(const TargetId& target, std::span<const std::uint64_t> engine_hashes);

  /// Everything that the worker, or one of its ranks, holds is gone. Nothing happens to one that
  /// has stored nothing.
  void clear(const WorkerName& worker, std::optional<std::uint32_t> dp_rank);

  /// Forgets the worker and its targets. \throws UnknownWorker if it has stored nothing
  void remove_worker(const WorkerName& worker);

  /// Reachable depth, in blocks, of each target that holds at least the first block; in the order
  /// in which their slots were given.
  [[nodiscard]] std::vector<std::pair<TargetId, std::uint32_t>> match(
      std::span<const std::uint64_t> local_hashes) const;

  [[nodiscard]] std::vector<TargetId> targets() const;
  [[nodiscard]] IndexStats stats() const { return tree_.stats(); }
  [[nodiscard]] std::optional<std::string> audit() const { return tree_.audit(); }

 private:
  [[nodiscard]] std::optional<Slot> find(const TargetId& target) const;
  [[nodiscard]] std::vector<Slot> slots_of(const WorkerName& worker,
                                           std::optional<std::uint32_t> dp_rank) const;
  [[nodiscard]] Slot take_slot(const TargetId& target);

  PrefixTree tree_;
  mutable PhaseFairMutex mutex_;  // of the names; held while the tree is used by slot
  std::unordered_map<TargetId, Slot> slots_;
  std::vector<TargetId> targets_;  // by slot
  std::vector<Slot> free_;         // descending, the lowest is given next
};

}  // namespace kvroute
