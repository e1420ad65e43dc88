#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"
#include "kvroute/base/tier.h"
#include "kvroute/index/index_stats.h"
#include "kvroute/index/overlaps.h"

namespace kvroute {

namespace detail {
class TreeCore;
}

/// What became of one stored event, in blocks.
/// `applied + duplicates + aliased + unknown` is the number of blocks, or 0 with `unknown_parent`;
/// less by the blocks whose only name the same event gave to a later block: these are not held.
/// Blocks that had waited for one of these are counted in `adopted` alone.
struct StoreResult {
  std::uint32_t applied = 0;  ///< newly held exactly (predicted ones that are now exact included)
  std::uint32_t duplicates = 0;  ///< already held under the same engine hash
  std::uint32_t aliased = 0;     ///< already held, now also under this further engine hash
  std::uint32_t confirmed = 0;   ///< of `applied`: were held by prediction
  std::uint32_t renamed = 0;     ///< engine hashes that had stood for other content until now
  std::uint32_t unknown = 0;     ///< `store_known` only: names that the slot does not know
  std::uint32_t waiting = 0;     ///< blocks that now wait for their parent
  std::uint32_t adopted = 0;     ///< blocks that had waited until now, and are held
  bool unknown_parent = false;   ///< the slot does not hold the parent: the chain waits for it
};

/// What became of one removed event. Each engine hash is counted in one field; where removal ends
/// all copies (without `count_copies`), further blocks that waited are added to `waiting`.
struct RemoveResult {
  std::uint32_t removed = 0;  ///< no longer held
  std::uint32_t kept = 0;     ///< one copy fewer, still held
  std::uint32_t waiting = 0;  ///< blocks that waited for their parent and no longer do
  std::uint32_t unknown = 0;  ///< engine hashes that the slot neither held nor had waiting
};

/// Blocks that one slot holds in one tier by announcement: consecutive ones of one path.
struct HeldChain {
  Slot slot = 0;
  Tier tier = Tier::device;
  /// The engine hash of the block before the first one, as the slot names it, or as others do if
  /// this slot does not hold it in any tier; absent at the root.
  std::optional<std::uint64_t> parent;
  bool parent_held = true;  ///< the slot holds the block before (or there is none)
  std::uint64_t namespace_seed = 0;
  std::span<const std::uint64_t> engine_hashes;
  std::span<const std::uint64_t> local_hashes;
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
/// Blocks are held in a tier; where none is named, on the device.
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
/// Thread-safe. Writers take turns; matches run beside each other and beside writers. A match that
/// finds the tree being changed tries for some microseconds, in which further events may come
/// before it, and then waits for the one at work alone. A match sees each event wholly or not at
/// all, except `store_known`, `clear`, `expire` and the memory limit, which readers may see in part
/// (never more than held); what an event adopts comes chain by chain.
///
/// Every function that takes a slot throws InvalidArgument if it is not below kMaxTargets.
///
/// Blocks have ids, of which each group of up to 16 that follow each other takes 16: there are
/// about 4 billion. Where a sixteenth is left, blocks are forgotten as at a memory limit; `store`,
/// `predict` and `pin` of more than this leaves room for change nothing and throw InvalidArgument,
/// and such a chain that has waited is dropped.
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
  /// A chain whose parent this slot does not hold in any tier, by name, is never attached to the
  /// root: it waits (at most IndexOptions::max_waiting blocks do) and is stored, with the chains
  /// that wait for its blocks in turn, as soon as the parent is. If the parent then turns out to be
  /// of another namespace, the chain is dropped: its local hashes are not what they should be.
  /// `namespace_seed` is remembered with the blocks for `namespace_seed_of`; the local hashes must
  /// have been computed under it, so that one place has one seed.
  /// O(blocks); what is stored, named and held as expected is handled by ranges.
  /// \throws InvalidArgument if the spans differ in length.
  StoreResult store(Slot slot, std::optional<std::uint64_t> parent_engine_hash,
                    std::span<const std::uint64_t> engine_hashes,
                    std::span<const std::uint64_t> local_hashes, std::uint64_t namespace_seed = 0,
                    Tier tier = Tier::device);

  /// Blocks that the slot already holds by these names in some tier are now held in `tier` too (an
  /// engine that offloads says no more than their hashes). Others are counted as `unknown`.
  StoreResult store_known(Slot slot, std::span<const std::uint64_t> engine_hashes, Tier tier);

  /// Blocks that the engine evicted from a tier, in any order; in the other tiers they stay. What
  /// hangs below a removed block stays held, but cannot be reached until the block is stored again.
  /// A block that waits for its parent stops waiting, and what waits below it stays. Of a name that
  /// is held in the tier and waits for it too, one removal ends the held copy first, then the
  /// oldest waiting one; without IndexOptions::count_copies it ends all of them.
  RemoveResult remove(Slot slot, std::span<const std::uint64_t> engine_hashes,
                      Tier tier = Tier::device);

  /// Everything that the slot held when it was called, exact and predicted, in all tiers, is gone,
  /// and what waited; its pins stay.
  /// Goes in steps, between which other calls are served; what others store or predict for this
  /// slot meanwhile may stay or go, each block with its name.
  /// O(nodes of the tree + blocks of the slot).
  void clear(Slot slot);

  /// The same of one tier: copies in other tiers stay, and so do names that are held there. The
  /// device's predictions go with it.
  void clear(Slot slot, Tier tier);

  /// `clear`, and the slot's tables are given back. For a slot whose target is gone: the number
  /// may then be given to another target. Pins of the slot stay until they are unpinned.
  void release_slot(Slot slot);

  /// The slot is assumed to hold these blocks, from the root, until `now` + predicted_ttl_seconds;
  /// what it holds exactly is left as it is, what was predicted before is prolonged. A slot with a
  /// capacity keeps them without a time instead, and the oldest beyond it go.
  /// \return how many blocks became held.
  std::uint32_t predict(Slot slot, std::span<const std::uint64_t> local_hashes, Nanoseconds now);

  /// Most blocks that the slot is assumed to hold: for an engine that sends no events but whose
  /// cache has a known size. Beyond it the least recently predicted go, the deepest of a path
  /// first; those that a request running on the slot has pinned stay. Absent (the default): no
  /// such bound, and predictions expire instead. Applies to predictions from now on: what was
  /// predicted under a capacity that is taken away stays until it is confirmed, cleared or
  /// forgotten, or predicted again with a time.
  /// \throws InvalidArgument if it is 0.
  void set_capacity(Slot slot, std::optional<std::uint32_t> blocks);

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
  /// The depths with tiers beyond `deepest` are not looked for, and left empty.
  /// O(blocks compared + nodes passed × slots / 64 + slots), and a walk for each further tier of
  /// each slot that holds anything below its device; takes no exclusive lock, and allocates only
  /// while `out` grows to the number of slots.
  void match(std::span<const std::uint64_t> local_hashes, Overlaps& out,
             Tier deepest = Tier::external) const;

  /// The namespace seed of a block that the slot has announced, so that a child announced below it
  /// inherits it; absent if the slot does not hold such a block.
  [[nodiscard]] std::optional<std::uint64_t> namespace_seed_of(Slot slot,
                                                               std::uint64_t engine_hash) const;

  /// Blocks that the slot holds now on its device, exact and predicted, reachable or not.
  [[nodiscard]] std::size_t held_blocks(Slot slot) const;
  /// The same of every slot up to the highest that the tree has seen, as of one moment.
  void held_blocks(std::vector<std::size_t>& by_slot) const;

  /// Another limit from now on (absent: none). Forgets what is above it before it returns, in
  /// steps, between which other calls are served.
  /// \throws InvalidArgument if it is below 1 MiB.
  void set_memory_limit(std::optional<std::size_t> limit);

  [[nodiscard]] IndexStats stats() const;

  /// Visits what every slot holds exactly, in every tier, as of one moment: each chain once, a
  /// block's chain before those that begin below it, so that storing them in this order into an
  /// empty tree gives the same answers (chains whose parent is not held would wait there). Second
  /// and further names and copies of a block are left out. Writers wait meanwhile, matches do not.
  /// The spans are valid during the visit; the visitor must not call this tree.
  void for_each_held(const std::function<void(const HeldChain&)>& visit) const;

  /// Everything that the tree holds, names, tiers, predictions and what waits included, but no pins
  /// and no counters: a versioned, checksummed string of bytes, the same on every machine. Times
  /// are relative to `now`. Writers wait meanwhile, matches do not.
  [[nodiscard]] std::string snapshot(Nanoseconds now) const;

  /// Replaces what the tree holds by a snapshot's content: answers are then as they were when it
  /// was taken. Pins must be gone. The new content is in memory beside the old one meanwhile, and
  /// only then subject to the memory limit.
  /// \throws InvalidArgument if the bytes are damaged, foreign, of another version or stand for
  /// more than 64 times their size and 1 MiB of memory, or if something is pinned; the tree is then
  /// as it was.
  void restore(std::string_view snapshot, Nanoseconds now);

  /// Checks every internal invariant, and says which is violated first; absent: all hold.
  /// O(everything); for tests and for a bug report.
  [[nodiscard]] std::optional<std::string> audit() const;

 private:
  std::unique_ptr<detail::TreeCore> core_;
};

}  // namespace kvroute
