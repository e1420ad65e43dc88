#pragma once

#include <cstdint>
#include <optional>

namespace kvroute {

/// How a prefix tree counts and bounds what it keeps. Fixed when the tree is made.
struct IndexOptions {
  /// Most bytes that the tree may occupy after any insertion has returned; absent: no limit.
  /// What does not fit is made room for by forgetting the coldest leaf suffixes (see
  /// docs/semantics.md); a limit below 1 MiB is refused with InvalidArgument.
  std::optional<std::size_t> memory_limit;

  /// How long a predicted block counts as held without being confirmed, in seconds; positive.
  /// Slots with a capacity (PrefixTree::set_capacity) have none.
  double predicted_ttl_seconds = 120.0;

  /// true: a block that its engine stored n times is held until it has been removed n times
  /// (engines that keep copies of one block announce each). false: one removal is enough.
  bool count_copies = true;

  /// Most blocks that wait for a parent that their slot has not announced, all slots together; 0:
  /// none wait. The oldest chains make room for new ones.
  std::size_t max_waiting = std::size_t{1} << 16;
};

/// Bytes that a prefix tree has allocated, by what they are for (the allocator's own overhead,
/// about 16 bytes an allocation, is not included).
struct IndexBytes {
  std::size_t labels = 0;    ///< local hashes, shared engine hashes and block ids of all runs
  std::size_t names = 0;     ///< tables from engine hash to block, and names of a slot's own
  std::size_t nodes = 0;     ///< nodes and runs themselves
  std::size_t edges = 0;     ///< the table from (parent, first label) to child
  std::size_t coverage = 0;  ///< which slot holds what of each node, where it is not inline
  std::size_t requests = 0;  ///< pins, predicted ranges and their queues
  std::size_t waiting = 0;   ///< chains whose parent is not known yet

  [[nodiscard]] std::size_t total() const noexcept {
    return labels + names + nodes + edges + coverage + requests + waiting;
  }
};

/// Sizes now, and counters since the tree was made.
struct IndexStats {
  IndexBytes bytes;
  std::size_t nodes = 0;           ///< runs of contiguous labels, without the root
  std::size_t blocks = 0;          ///< distinct blocks in the tree
  std::size_t held_exact = 0;      ///< (block, slot) pairs on the device, learned from events
  std::size_t held_predicted = 0;  ///< (block, slot) pairs held by assumption
  std::size_t held_lower = 0;      ///< (block, slot, tier) triples below the device
  std::size_t waiting = 0;         ///< blocks that wait for their parent
  std::size_t pins = 0;            ///< places of running requests (empty ones not counted)

  std::uint64_t stored = 0;               ///< blocks that became held exactly
  std::uint64_t duplicates = 0;           ///< blocks stored again while held under the same hash
  std::uint64_t confirmed = 0;            ///< stored blocks that were predicted before
  std::uint64_t renamed = 0;              ///< engine hashes announced again for other content
  std::uint64_t unknown_parents = 0;      ///< blocks that came before their parent
  std::uint64_t adopted = 0;              ///< of them: were attached when it came
  std::uint64_t waited_in_vain = 0;       ///< of them: found no room, or another namespace
  std::uint64_t removed = 0;              ///< blocks that stopped being held by removal
  std::uint64_t unknown_removed = 0;      ///< removals of engine hashes that the slot did not hold
  std::uint64_t predicted = 0;            ///< blocks that became held by assumption
  std::uint64_t expired = 0;              ///< predicted blocks whose time ran out
  std::uint64_t outlived = 0;             ///< predicted blocks beyond their slot's capacity
  std::uint64_t forgotten_exact = 0;      ///< exact blocks given up for the memory limit
  std::uint64_t forgotten_predicted = 0;  ///< predicted blocks given up for the memory limit
};

}  // namespace kvroute
