#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

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
};

/// Chains of blocks that wait for their parent, by the parent's engine hash, each slot's apart from
/// the others'. An event waits as it came: the same one twice is two chains. Holds `most` blocks at
/// most, those that are gone included: the oldest chains make room. Not synchronised; adds what it
/// allocates to `*bytes`, which outlives it.
class WaitingRoom {
 public:
  WaitingRoom(std::size_t most, std::size_t* bytes);

  /// The chain waits from now on. One that alone is longer than `most` does not.
  /// \return how many blocks do not wait (any longer) because of it: those of older chains that
  /// made room, or its own.
  std::size_t add(Slot slot, Tier tier, std::uint64_t parent, std::uint64_t namespace_seed,
                  std::span<const std::uint64_t> names, std::span<const std::uint64_t> labels);

  /// Whether any chain of the slot waits. O(1), for every stored event asks it.
  [[nodiscard]] bool any(Slot slot) const noexcept;
  /// Blocks that wait, without those that are gone.
  [[nodiscard]] std::size_t blocks() const noexcept;

  /// Takes out the oldest chain of the slot that waits for `parent`, if there is one.
  [[nodiscard]] std::optional<WaitingChain> take(Slot slot, std::uint64_t parent);

  /// Of the blocks of this name that wait in this slot and tier, the oldest is gone; with `all`,
  /// every one. A chain whose blocks are all gone waits no longer. \return how many that were.
  std::size_t remove(Slot slot, Tier tier, std::uint64_t name, bool all);

  /// The slot's chains go. \return how many blocks that were, without those already gone.
  std::size_t clear(Slot slot);
  /// The oldest chain goes. \return how many blocks that were, without those already gone.
  std::size_t drop_oldest();

  /// Calls visit(const WaitingChain&) for each, oldest first.
  template <typename Visit>
  void for_each(Visit visit) const;
};

}  // namespace kvroute::detail
