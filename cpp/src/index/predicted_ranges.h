#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "index/accounting.h"
#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"

namespace kvroute::detail {

/// Where the predictions of slots with a capacity begin: each has a number from here on in place of
/// a deadline, the instant of the prediction. As times these lie beyond any that is reached.
inline constexpr Nanoseconds kFirstInstant = Nanoseconds{1} << 62;

/// Blocks [begin, end) of a node that a slot holds by assumption until `deadline`.
struct PredictedRange {
  Slot slot = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  Nanoseconds deadline = 0;

  [[nodiscard]] bool expires() const noexcept { return deadline < kFirstInstant; }
};

/// The predicted blocks of one node: disjoint ranges, by slot and begin. They are a part of what
/// the node's coverage says is held.
class PredictedRanges {
 public:
  [[nodiscard]] bool empty() const noexcept { return ranges_.empty(); }
  [[nodiscard]] const CompactVector<PredictedRange>& ranges() const noexcept { return ranges_; }
  [[nodiscard]] bool contains(Slot slot, std::uint32_t at) const noexcept;
  /// Sets marks[i] to 0 for each block begin + i of [begin, end) that is predicted for `slot`.
  void unmark(Slot slot, std::uint32_t begin, std::uint32_t end,
              std::uint8_t* marks) const noexcept;
  /// Whether blocks are predicted for the slot with just this deadline.
  [[nodiscard]] bool any(Slot slot, Nanoseconds deadline) const noexcept;
  /// Appends the deadlines of all that is predicted for the slot.
  void list_deadlines(Slot slot, std::vector<Nanoseconds>& deadlines) const;
  /// One past the last of the slot's blocks with this deadline; 0 if there are none.
  [[nodiscard]] std::uint32_t end_of(Slot slot, Nanoseconds deadline) const noexcept;
  /// The first deadline; none of those that expire if it is not before kFirstInstant.
  [[nodiscard]] Nanoseconds earliest() const noexcept;

  /// Blocks that were not predicted until now become so.
  void add(Slot slot, std::uint32_t begin, std::uint32_t end, Nanoseconds deadline,
           std::size_t& bytes);
  /// Where just [begin, end) is one range, it has this deadline from now on. O(log ranges).
  /// \return whether it is.
  bool prolong(Slot slot, std::uint32_t begin, std::uint32_t end, Nanoseconds deadline) noexcept;
  /// [begin, end) stops being predicted. \return how many blocks of it were.
  std::uint32_t take(Slot slot, std::uint32_t begin, std::uint32_t end, std::size_t& bytes);
  /// Drops ranges that are due and calls visit(range) for each.
  template <typename Visit>
  void take_due(Nanoseconds now, Visit visit, std::size_t& bytes) {
    for (std::uint32_t i = ranges_.size(); i-- > 0;) {
      if (ranges_[i].deadline > now || !ranges_[i].expires()) continue;
      const PredictedRange range = ranges_[i];
      ranges_.erase(i, bytes);
      visit(range);
    }
  }

  /// Of the blocks from `begin` on that are predicted for the slot with this deadline, the last
  /// `most` stop being so; calls visit(begin, end) for each part. \return how many they were.
  template <typename Visit>
  std::uint32_t take_last(Slot slot, Nanoseconds deadline, std::uint32_t begin, std::uint32_t most,
                          Visit visit, std::size_t& bytes) {
    std::uint32_t taken = 0;
    for (std::uint32_t i = end_of(slot); i-- > 0 && taken < most;) {
      PredictedRange& range = ranges_[i];
      if (range.slot != slot || range.end <= begin) break;
      if (range.deadline != deadline) continue;
      const std::uint32_t to = range.end;
      const std::uint32_t lowest = std::max(range.begin, begin);
      const std::uint32_t from = to - std::min(most - taken, to - lowest);
      taken += to - from;
      range.end = from;
      if (range.begin == from) ranges_.erase(i, bytes);
      visit(from, to);
    }
    return taken;
  }

  /// Puts the ranges of a node of `length` blocks before these; `head` is empty then.
  void put_before(PredictedRanges& head, std::uint32_t length, std::size_t& bytes);
  /// Cuts off the first `at` blocks, whose ranges are returned.
  [[nodiscard]] PredictedRanges split_head(std::uint32_t at, std::size_t& bytes);

 private:
  [[nodiscard]] std::uint32_t first_ending_after(Slot slot, std::uint32_t at) const noexcept;
  [[nodiscard]] std::uint32_t end_of(Slot slot) const noexcept;

  CompactVector<PredictedRange> ranges_;
};

}  // namespace kvroute::detail
