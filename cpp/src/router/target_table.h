#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/policy/pair_choice.h"
#include "kvroute/router/allowed_set.h"
#include "kvroute/router/worker_spec.h"
#include "router/target_marks.h"

namespace kvroute::detail {

/// One worker that takes part.
struct Worker {
  WorkerName name;
  std::uint32_t block_size = 0;
  std::vector<Slot> slots;  ///< by rank
  std::optional<std::uint64_t> total_blocks;
  bool bounded = false;  ///< its predictions end by `total_blocks`, not by time
  std::map<std::string, std::string> labels;
  std::vector<std::string> loras = {};  ///< resident adapters
  bool draining = false;
};

/// Which targets there are, and their slots. Not thread-safe.
///
/// A slot goes through three states: free, taken (known by number, not yet or no longer chosen) and
/// listed. The lowest free slots are given out, so that arrays by slot stay short.
class TargetTable {
 public:
  TargetTable();

  /// Slots for `ranks` targets. \throws InvalidArgument if fewer are free.
  [[nodiscard]] std::vector<Slot> take_slots(const WorkerName& name, std::uint32_t ranks,
                                             std::uint32_t block_size);
  void free_slots(std::span<const Slot> slots);

  void list(Worker worker);
  [[nodiscard]] Worker unlist(const WorkerName& name);
  /// \throws UnknownWorker
  void set_draining(const WorkerName& name, bool draining);
  void set_loras(const WorkerName& name, std::vector<std::string> loras);

  /// Null if it is not listed.
  [[nodiscard]] const Worker* find(const WorkerName& name) const;
  /// \throws UnknownWorker, naming `field`
  [[nodiscard]] const Worker& at(const WorkerName& name, const char* field) const;
  /// In the order of listing.
  [[nodiscard]] std::vector<const Worker*> workers() const;

  /// Slots of all listed workers, ascending.
  [[nodiscard]] std::span<const Slot> listed() const noexcept { return listed_; }
  /// Slots of these workers or ranks, ascending, each once. \throws InvalidArgument, UnknownWorker
  void slots_of(std::span<const WorkerRef> allowed, std::vector<Slot>& slots,
                const char* field = "allowed") const;
  /// The same, of those who are listed; looked up again only when membership has changed.
  [[nodiscard]] std::shared_ptr<const std::vector<Slot>> slots_of(const AllowedSet& allowed) const;
  /// Changes with every listing and unlisting; never the same for two tables.
  [[nodiscard]] std::uint64_t membership() const noexcept { return membership_; }
  /// What was not known when the worker was listed. Counts as a change of membership.
  void learn_total_blocks(Slot slot, std::uint64_t blocks);
  [[nodiscard]] const TargetMarks& marks() const noexcept { return marks_; }

  /// By slot.
  [[nodiscard]] const TargetId& target(Slot slot) const { return targets_[slot]; }
  [[nodiscard]] std::span<const TargetId> targets() const noexcept { return targets_; }
  [[nodiscard]] std::span<const std::uint32_t> block_sizes() const noexcept { return block_sizes_; }
  /// KV blocks; 0: unknown.
  [[nodiscard]] std::span<const std::uint64_t> total_blocks() const noexcept {
    return total_blocks_;
  }
  /// Hash of worker name and rank, the same in every process.
  [[nodiscard]] std::span<const std::uint64_t> identities() const noexcept { return identities_; }
  /// Place in the order of the names and ranks of listed targets; one that has left keeps its own
  /// until its slot is taken again.
  [[nodiscard]] std::span<const std::uint32_t> turns() const noexcept { return turns_; }
  /// Where each target is, by its worker's labels "zone" and "host". One with a host and without a
  /// zone is in the zone "".
  [[nodiscard]] const std::shared_ptr<const std::vector<Place>>& places() const noexcept {
    return places_;
  }
  [[nodiscard]] std::size_t slot_count() const noexcept { return targets_.size(); }

 private:
  struct Listing {
    Worker worker;
    std::uint64_t order;
  };

  void rebuild_listed();
  void rebuild_places();

  std::unordered_map<WorkerName, Listing> workers_;
  std::vector<TargetId> targets_;
  std::vector<std::uint32_t> block_sizes_;
  std::vector<std::uint64_t> total_blocks_;
  std::vector<std::uint64_t> identities_;
  std::vector<std::uint32_t> turns_;
  std::shared_ptr<const std::vector<Place>> places_;
  std::vector<bool> taken_;
  std::vector<Slot> listed_;
  TargetMarks marks_;
  std::uint64_t next_order_ = 0;
  std::uint64_t membership_;
};

}  // namespace kvroute::detail
