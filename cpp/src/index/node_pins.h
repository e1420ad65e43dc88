#pragma once

#include <cstddef>
#include <cstdint>

#include "index/accounting.h"
#include "kvroute/base/ids.h"

namespace kvroute::detail {

/// Running requests on one slot whose place in a node is its first `end` blocks. Those that go on
/// below the node have `end` equal to its length, and are counted in `below` too.
struct PinEntry {
  Slot slot = 0;
  std::uint32_t end = 0;
  std::uint32_t count = 0;
  std::uint32_t below = 0;
};

/// The pins of one node, by slot and end.
class NodePins {
 public:
  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
  [[nodiscard]] const CompactVector<PinEntry>& entries() const noexcept { return entries_; }
  /// Blocks of the node that are active on the slot.
  [[nodiscard]] std::uint32_t active(Slot slot) const noexcept;
  /// Blocks of the node that are active on any slot.
  [[nodiscard]] std::uint32_t end() const noexcept;

  /// \return how many blocks became active on the slot.
  std::uint32_t add(const PinEntry& pins, std::size_t& bytes);
  /// Takes out one pin, which is there, with `below` one of those that go on below the node.
  /// \return how many blocks stopped being active.
  std::uint32_t remove(Slot slot, std::uint32_t end, bool below, std::size_t& bytes);
  /// Whether a pin of the slot has its last block there.
  [[nodiscard]] bool any_ends_at(Slot slot, std::uint32_t end) const noexcept;

  /// Puts the pins of a node of `length` blocks before these; `head` is empty then.
  void put_before(NodePins& head, std::uint32_t length, std::size_t& bytes);
  /// Cuts off the first `at` blocks, whose pins are returned.
  [[nodiscard]] NodePins split_head(std::uint32_t at, std::size_t& bytes);

 private:
  [[nodiscard]] std::uint32_t position(Slot slot, std::uint32_t end) const noexcept;

  CompactVector<PinEntry> entries_;
};

}  // namespace kvroute::detail
