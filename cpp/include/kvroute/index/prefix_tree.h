#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"
#include "kvroute/index/index_stats.h"
#include "kvroute/index/overlaps.h"

namespace kvroute {

namespace detail {
class TreeCore;
}

/// What became of one stored event, in blocks.
/// `applied + duplicates + aliased` is the number of blocks, or 0 with `unknown_parent`; less by
/// the blocks whose only name the same event gave to a later block: these are not held.
struct StoreResult {
  std::uint32_t applied = 0;  ///< newly held exactly (predicted ones that are now exact included)
  std::uint32_t duplicates = 0;  ///< already held under the same engine hash
  std::uint32_t aliased = 0;     ///< already held, now also under this further engine hash
  std::uint32_t confirmed = 0;   ///< of `applied`: were held by prediction
  std::uint32_t renamed = 0;     ///< engine hashes that had stood for other content until now
  bool unknown_parent = false;   ///< the parent was never announced by this slot: nothing stored
};

/// What became of one removed event, in blocks.
struct RemoveResult {
  std::uint32_t removed = 0;  ///< no longer held
  std::uint32_t kept = 0;     ///< one copy fewer, still held
  std::uint32_t unknown = 0;  ///< engine hashes that the slot did not hold
};

/// The place of a running request in a tree: opaque, copyable, valid until it is unpinned.
/// A default-made Pin is the empty place (no blocks); unpinning it does nothing.
class Pin {
 public:
  Pin() = default;
  [[nodiscard]] bool empty() const noexcept { return depth_ == 0; }
  /// Blocks from the root to the place.
  [[nodiscard]] std::uint32_t depth() const noexcept { return depth_; }

  friend bool operator==(const Pin&, const Pin&) = default;

 private:
  friend class detail::TreeCore;
  std::uint32_t block_ = 0;
  std::uint32_t depth_ = 0;
};

struct PinResult {
  Pin pin;
  std::uint32_t newly_active = 0;  ///< blocks that no running request had pinned on the slot before
};

/// A compressed radix tree of local hashes: which slot holds which prefixes, of one block size.
///
/// It knows slots (dense numbers of targets) and hashes, nothing of workers, tokens or engines.
/// A slot *holds* a block between its stored and its removed event; the block is *reachable*
/// while the slot holds all blocks before it too. A match counts reachable blocks only.
/// docs/semantics.md has the rules in full.
///
/// \code
/// PrefixTree tree;
/// tree.store(0, std::nullopt, engine_hashes, local_hashes);   // slot 0 cached these blocks
/// Overlaps overlaps;
/// tree.match(request_hashes, overlaps);
/// overlaps.held[0];                                           // depth in blocks
/// \endcode
///
/// Thread-safe. Writers take turns; matches run beside each other and beside writers, and wait at
/// most for the application of one event. A match sees each event wholly or not at all, except
/// `clear`, `expire` and the memory limit, which readers may see in part (never more than held).
///
/// Every function that takes a slot throws InvalidArgument if it is not below kMaxTargets.
class PrefixTree {
 public:
  /// \throws InvalidArgument if an option is out of its range.
  explicit PrefixTree(const IndexOptions& options = {});
  ~PrefixTree();
  PrefixTree(PrefixTree&&) noexcept;
  PrefixTree& operator=(PrefixTree&&) noexcept;

  /// Exact blocks from an engine's event: `local_hashes[i]` under the name `engine_hashes[i]`,
  /// a chain that begins below the block `parent_engine_hash` (absent: at the root).
  ///
  /// A parent that this slot does not hold by name leaves the tree as it was, and is counted.
  /// `namespace_seed` is remembered with the blocks for `namespace_seed_of`; the local hashes must
  /// have been computed under it.
  /// O(blocks); amortised, one hash table operation a block.
  /// \throws InvalidArgument if the spans differ in length.
  StoreResult store(Slot slot, std::optional<std::uint64_t> parent_engine_hash,
                    std::span<const std::uint64_t> engine_hashes,
                    std::span<const std::uint64_t> local_hashes, std::uint64_t namespace_seed = 0);

  /// Blocks that the engine evicted, in any order. What hangs below a removed block stays held,
  /// but cannot be reached until the block is stored again.
  RemoveResult remove(Slot slot, std::span<const std::uint64_t> engine_hashes);

  /// Everything that the slot held when it was called, exact and predicted, is gone; its pins stay.
  /// Goes in steps, between which other calls are served; what others store or predict for this
  /// slot meanwhile may stay or go, each block with its name.
  /// O(nodes of the tree + blocks of the slot).
  void clear(Slot slot);

  /// `clear`, and the slot's tables are given back. For a slot whose target is gone: the number
  /// may then be given to another target. Pins of the slot stay until they are unpinned.
  void release_slot(Slot slot);

  /// The slot is assumed to hold these blocks, from the root, until `now` + predicted_ttl_seconds;
  /// what it holds exactly is left as it is, what was predicted before is prolonged.
  /// \return how many blocks became held.
  std::uint32_t predict(Slot slot, std::span<const std::uint64_t> local_hashes, Nanoseconds now);

  /// Takes away predicted blocks whose time is up at `now`; a bounded amount of work a call (at
  /// most 1,024 nodes), none while a writer is at work: it never waits for one.
  /// \return how many blocks stopped being held; call again while it is not 0.
  std::size_t expire(Nanoseconds now);

  /// Marks these blocks as in use by a running request on the slot. A pinned block stays in the
  /// tree until it is unpinned, held or not; being pinned does not make it held.
  [[nodiscard]] PinResult pin(Slot slot, std::span<const std::uint64_t> local_hashes);

  /// Ends what `pin` began; exactly once for each pin, with its slot. O(nodes on the path).
  /// \return how many blocks stopped being active on the slot.
  /// \throws InvalidArgument if the slot has no such pin.
  std::uint32_t unpin(Slot slot, Pin pin);

  /// One walk of the tree: reachable and active depth for every slot.
  /// O(blocks compared + nodes passed × slots / 64 + slots); takes no exclusive lock, and
  /// allocates only while `out` grows to the number of slots.
  void match(std::span<const std::uint64_t> local_hashes, Overlaps& out) const;

  /// The namespace seed of a block that the slot has announced, so that a child announced below it
  /// inherits it; absent if the slot does not hold such a block.
  [[nodiscard]] std::optional<std::uint64_t> namespace_seed_of(Slot slot,
                                                               std::uint64_t engine_hash) const;

  /// Blocks that the slot holds now, exact and predicted, reachable or not.
  [[nodiscard]] std::size_t held_blocks(Slot slot) const;
  /// The same of every slot up to the highest that the tree has seen, as of one moment.
  void held_blocks(std::vector<std::size_t>& by_slot) const;

  /// Another limit from now on (absent: none). Forgets what is above it before it returns, in
  /// steps, between which other calls are served.
  /// \throws InvalidArgument if it is below 1 MiB.
  void set_memory_limit(std::optional<std::size_t> limit);

  [[nodiscard]] IndexStats stats() const;

  /// Checks every internal invariant, and says which is violated first; absent: all hold.
  /// O(everything); for tests and for a bug report.
  [[nodiscard]] std::optional<std::string> audit() const;

 private:
  std::unique_ptr<detail::TreeCore> core_;
};

}  // namespace kvroute
