#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "index/accounting.h"
#include "index/slot_set.h"
#include "kvroute/base/ids.h"

namespace kvroute::detail {

/// A slot that holds some blocks of a node, not all.
struct PartialHolder {
  Slot slot = 0;
  std::uint32_t lead = 0;                 ///< blocks held from the node's start without a gap
  std::uint32_t held = 0;                 ///< blocks held; 0 < held < the node's length
  std::unique_ptr<std::uint64_t[]> bits;  ///< one bit a block, only where held > lead
};

/// Which slots hold which blocks of one node: a set for those that hold all of it, a cutoff for
/// those that hold its head, a bitmap only where there are holes.
/// The node's length is passed in; `bytes` is the counter of heap memory.
class Coverage {
 public:
  [[nodiscard]] const SlotSet& full() const noexcept { return full_; }
  [[nodiscard]] const CompactVector<PartialHolder>& partial() const noexcept { return partial_; }

  [[nodiscard]] bool empty() const noexcept { return partial_.empty() && full_.empty(); }
  /// Whether no more than `most` slots hold anything here.
  [[nodiscard]] bool holders_at_most(std::uint32_t most) const noexcept;
  [[nodiscard]] bool holds(Slot slot, std::uint32_t at) const noexcept;
  /// Sets marks[i] to 1 for each block begin + i of [begin, end) that `slot` holds.
  void mark(Slot slot, std::uint32_t begin, std::uint32_t end, std::uint8_t* marks) const noexcept;
  /// Blocks that `slot` holds.
  [[nodiscard]] std::uint32_t held(Slot slot, std::uint32_t length) const noexcept;
  /// The first block at or after `at` that `slot` does not hold; `length` if there is none.
  [[nodiscard]] std::uint32_t run_from(Slot slot, std::uint32_t at,
                                       std::uint32_t length) const noexcept;
  /// The first block at or after `at` that `slot` holds; `length` if there is none.
  [[nodiscard]] std::uint32_t next_held(Slot slot, std::uint32_t at,
                                        std::uint32_t length) const noexcept;
  /// Calls visit(begin, end) for each range of blocks that `slot` holds, in their order.
  template <typename Visit>
  void for_each_range(Slot slot, std::uint32_t length, Visit visit) const {
    for (std::uint32_t at = next_held(slot, 0, length); at < length;) {
      const std::uint32_t end = run_from(slot, at, length);
      visit(at, end);
      at = next_held(slot, end, length);
    }
  }
  /// One past the last block that anyone holds.
  [[nodiscard]] std::uint32_t end(std::uint32_t length) const noexcept;

  /// Makes [begin, end) held. \return how many blocks were not held before.
  std::uint32_t add(Slot slot, std::uint32_t begin, std::uint32_t end, std::uint32_t length,
                    std::size_t& bytes);
  /// \return how many blocks of [begin, end) were held before and no longer are.
  std::uint32_t remove(Slot slot, std::uint32_t begin, std::uint32_t end, std::uint32_t length,
                       std::size_t& bytes);

  /// Cuts off the first `at` blocks, which become the coverage that is returned.
  [[nodiscard]] Coverage split_head(std::uint32_t at, std::uint32_t length, std::size_t& bytes);
  /// Puts the coverage of `head_length` blocks before this one of `length`; `head` is empty then.
  void put_before(Coverage& head, std::uint32_t head_length, std::uint32_t length,
                  std::size_t& bytes);
  /// About how many slots would hold a part only of what these two would be together.
  [[nodiscard]] static std::uint32_t partial_if_joined(const Coverage& head,
                                                       const Coverage& tail) noexcept;
  /// Calls visit(slot) for each slot that holds anything here.
  template <typename Visit>
  void for_each_holder(Visit visit) const {
    full_.for_each(visit);
    for (const PartialHolder& holder : partial_) visit(holder.slot);
  }
  /// The node grows; nobody holds the new blocks.
  void extend(std::uint32_t old_length, std::uint32_t new_length, std::size_t& bytes);
  /// The node shrinks; nobody holds the blocks that go.
  void truncate(std::uint32_t old_length, std::uint32_t new_length, std::size_t& bytes);
  void clear(std::uint32_t length, std::size_t& bytes);

  [[nodiscard]] std::size_t heap_bytes(std::uint32_t length) const noexcept;

 private:
  [[nodiscard]] std::uint32_t position(Slot slot) const noexcept;
  [[nodiscard]] bool is_partial(std::uint32_t at, Slot slot) const noexcept {
    return at < partial_.size() && partial_[at].slot == slot;
  }
  void copy_bits(Slot slot, std::uint32_t length, std::uint64_t* bits,
                 std::uint32_t shift) const noexcept;
  void settle(std::uint32_t at, std::uint32_t length, std::size_t& bytes);

  SlotSet full_;
  CompactVector<PartialHolder> partial_;  // by slot
};

}  // namespace kvroute::detail
