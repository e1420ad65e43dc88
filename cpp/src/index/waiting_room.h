#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "index/accounting.h"
#include "index/keyed_queues.h"
#include "kvroute/base/ids.h"
#include "kvroute/base/tier.h"

namespace kvroute::detail {

/// A stored event whose parent its slot does not hold yet.
struct WaitingChain {
  Slot slot = 0;
  Tier tier = Tier::device;
  std::uint64_t parent = 0;  // engine hash
  std::uint64_t namespace_seed = 0;
  std::vector<std::uint64_t> names;
  std::vector<std::uint64_t> labels;
  std::vector<std::uint8_t> gone;  // 1: the block was removed while it waited

  friend bool operator==(const WaitingChain&, const WaitingChain&) = default;
};

/// Chains of blocks that wait for their parent, by the parent's engine hash, each slot's apart from
/// the others'. An event waits as it came: the same one twice is two chains. Holds `most` blocks at
/// most, those that are gone included: the oldest chains make room. Not synchronised; adds what it
/// allocates to `*bytes`, which outlives it: nothing while nothing waits, about 60 bytes a block in
/// long chains, 200 where each block is a chain of its own.
///
/// Whatever a stream sends, an operation costs a look-up for each block that it adds, takes out or
/// drops, and no more: neither many chains below one parent nor many blocks of one name make it
/// slower. What is dropped was added once.
class WaitingRoom {
 public:
  WaitingRoom(std::size_t most, std::size_t* bytes);
  WaitingRoom(const WaitingRoom&) = delete;
  WaitingRoom& operator=(const WaitingRoom&) = delete;

  /// The chain waits from now on. One that alone is longer than `most`, or empty, does not.
  /// `slot` is below kMaxTargets, and the spans are of one length.
  /// \return how many blocks do not wait (any longer) because of it: those of older chains that
  /// made room, without those already gone, or its own.
  std::size_t add(Slot slot, Tier tier, std::uint64_t parent, std::uint64_t namespace_seed,
                  std::span<const std::uint64_t> names, std::span<const std::uint64_t> labels);
  /// The same with a chain that had waited before; what was gone of it stays gone.
  std::size_t add(const WaitingChain& chain);

  /// Whether any chain of the slot waits. One load, for every stored event asks it.
  [[nodiscard]] bool any(Slot slot) const noexcept { return waits_[slot] != 0; }
  /// Blocks that wait, without those that are gone.
  [[nodiscard]] std::size_t blocks() const noexcept { return live_; }

  /// Takes out the oldest chain of the slot that waits for `parent`, if there is one.
  [[nodiscard]] std::optional<WaitingChain> take(Slot slot, std::uint64_t parent);

  /// Of the blocks of this name that wait in this slot and tier, the oldest is gone; with `all`,
  /// every one. A chain whose blocks are all gone waits no longer. \return how many that were.
  std::size_t remove(Slot slot, Tier tier, std::uint64_t name, bool all);

  /// The slot's chains go. \return how many blocks that were, without those already gone.
  std::size_t clear(Slot slot);
  /// The same of those that wait to be held in this tier.
  std::size_t clear(Slot slot, Tier tier);
  /// The oldest chain goes. \return how many blocks that were, without those already gone.
  std::size_t drop_oldest();

  /// Calls visit for each chain, oldest first; adding them in this order gives an equal room. The
  /// chain is valid during the visit.
  void for_each(const std::function<void(const WaitingChain&)>& visit) const;

  /// Which invariant is violated first; absent: all hold.
  [[nodiscard]] std::optional<std::string> audit() const;

 private:
  struct Chain;
  using Chains = std::list<Chain, CountingAllocator<Chain>>;

  struct Block {
    std::uint64_t name = 0;
    std::uint64_t label = 0;
    Chain* chain = nullptr;
    QueueLink<Block> same_name;  // only while it is not gone
    [[nodiscard]] bool gone() const noexcept { return same_name.older == nullptr; }
  };
  struct Chain {
    explicit Chain(std::size_t* bytes) : blocks(CountingAllocator<Block>(bytes)) {}
    Slot slot = 0;
    Tier tier = Tier::device;
    std::uint64_t parent = 0;
    std::uint64_t namespace_seed = 0;
    std::vector<Block, CountingAllocator<Block>> blocks;
    std::size_t live = 0;  // blocks that are not gone
    QueueLink<Chain> same_parent;
    QueueLink<Chain> same_lane;
    Chains::iterator place;
  };

  struct ByName {
    using Item = Block;
    using Key = std::tuple<std::uint64_t, Slot, Tier>;
    static Key key_of(const Block& block) {
      return {block.name, block.chain->slot, block.chain->tier};
    }
    static auto& link_of(Block& block) { return block.same_name; }
  };
  struct ByParent {
    using Item = Chain;
    using Key = std::tuple<std::uint64_t, Slot>;
    static Key key_of(const Chain& chain) { return {chain.parent, chain.slot}; }
    static auto& link_of(Chain& chain) { return chain.same_parent; }
  };
  struct ByLane {
    using Item = Chain;
    using Key = std::tuple<Slot, Tier>;
    static Key key_of(const Chain& chain) { return {chain.slot, chain.tier}; }
    static auto& link_of(Chain& chain) { return chain.same_lane; }
  };
  /// For each slot, a bit for each tier of which a chain waits.
  using Waits = std::array<std::uint8_t, kMaxTargets>;
  [[nodiscard]] static std::uint8_t bit_of(Tier tier) noexcept {
    return static_cast<std::uint8_t>(1U << index_of(tier));
  }

  /// Room for `size` blocks, if there can be. \return how many blocks had to go.
  std::size_t make_room(std::size_t size);
  void enter(Chain& chain);
  void forget(Block& block);
  /// \return how many blocks waited.
  std::size_t drop(Chain& chain);
  static void copy(const Chain& from, WaitingChain& to);

  std::size_t most_;
  std::size_t* bytes_;
  std::size_t size_ = 0;  // blocks of all chains
  std::size_t live_ = 0;  // of them, not gone
  Chains chains_;         // oldest first
  KeyedQueues<ByName> by_name_;
  KeyedQueues<ByParent> by_parent_;
  KeyedQueues<ByLane> by_lane_;
  Waits waits_{};
};

}  // namespace kvroute::detail
