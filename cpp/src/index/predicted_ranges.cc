#include "index/predicted_ranges.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

namespace kvroute::detail {

/// Position of the first range that is the slot's and ends after `at`, or belongs to a later slot.
std::uint32_t PredictedRanges::first_ending_after(Slot slot, std::uint32_t at) const noexcept {
  const auto* found = std::lower_bound(ranges_.begin(), ranges_.end(), std::tuple(slot, at),
                                       [](const PredictedRange& range, const auto& key) {
                                         return std::tuple(range.slot, range.end - 1) < key;
                                       });
  return static_cast<std::uint32_t>(found - ranges_.begin());
}

bool PredictedRanges::contains(Slot slot, std::uint32_t at) const noexcept {
  const std::uint32_t i = first_ending_after(slot, at);
  return i < ranges_.size() && ranges_[i].slot == slot && ranges_[i].begin <= at;
}

void PredictedRanges::unmark(Slot slot, std::uint32_t begin, std::uint32_t end,
                             std::uint8_t* marks) const noexcept {
  for (std::uint32_t at = first_ending_after(slot, begin); at < ranges_.size(); ++at) {
    const PredictedRange& range = ranges_[at];
    if (range.slot != slot || range.begin >= end) return;
    const std::uint32_t first = std::max(range.begin, begin);
    std::fill_n(marks + (first - begin), std::min(range.end, end) - first, std::uint8_t{0});
  }
}

/// Position after the slot's last range.
std::uint32_t PredictedRanges::end_of(Slot slot) const noexcept {
  return first_ending_after(slot, std::numeric_limits<std::uint32_t>::max());
}

bool PredictedRanges::any(Slot slot, Nanoseconds deadline) const noexcept {
  for (std::uint32_t i = first_ending_after(slot, 0); i < ranges_.size(); ++i) {
    if (ranges_[i].slot != slot) return false;
    if (ranges_[i].deadline == deadline) return true;
  }
  return false;
}

void PredictedRanges::list_deadlines(Slot slot, std::vector<Nanoseconds>& deadlines) const {
  for (std::uint32_t i = first_ending_after(slot, 0); i < ranges_.size(); ++i) {
    if (ranges_[i].slot != slot) return;
    deadlines.push_back(ranges_[i].deadline);
  }
}

std::uint32_t PredictedRanges::end_of(Slot slot, Nanoseconds deadline) const noexcept {
  for (std::uint32_t i = end_of(slot); i-- > 0;) {
    if (ranges_[i].slot != slot) break;
    if (ranges_[i].deadline == deadline) return ranges_[i].end;
  }
  return 0;
}

Nanoseconds PredictedRanges::earliest() const noexcept {
  Nanoseconds earliest = std::numeric_limits<Nanoseconds>::max();
  for (const PredictedRange& range : ranges_) earliest = std::min(earliest, range.deadline);
  return earliest;
}

void PredictedRanges::add(Slot slot, std::uint32_t begin, std::uint32_t end, Nanoseconds deadline,
                          std::size_t& bytes) {
  if (begin == end) return;
  std::uint32_t at = first_ending_after(slot, begin);
  const auto joins = [&](const PredictedRange& r) {
    return r.slot == slot && r.deadline == deadline;
  };
  if (at > 0 && joins(ranges_[at - 1]) && ranges_[at - 1].end == begin) {
    begin = ranges_[at - 1].begin;
    ranges_.erase(--at, bytes);
  }
  if (at < ranges_.size() && joins(ranges_[at]) && ranges_[at].begin == end) {
    ranges_[at].begin = begin;
    return;
  }
  ranges_.insert(at, {slot, begin, end, deadline}, bytes);
}

bool PredictedRanges::prolong(Slot slot, std::uint32_t begin, std::uint32_t end,
                              Nanoseconds deadline) noexcept {
  const std::uint32_t at = first_ending_after(slot, begin);
  if (at == ranges_.size() || ranges_[at].slot != slot) return false;
  if (ranges_[at].begin != begin || ranges_[at].end != end) return false;
  ranges_[at].deadline = deadline;
  return true;
}

std::uint32_t PredictedRanges::take(Slot slot, std::uint32_t begin, std::uint32_t end,
                                    std::size_t& bytes) {
  if (begin == end) return 0;
  std::uint32_t taken = 0;
  std::uint32_t at = first_ending_after(slot, begin);
  while (at < ranges_.size() && ranges_[at].slot == slot && ranges_[at].begin < end) {
    const PredictedRange range = ranges_[at];
    taken += std::min(range.end, end) - std::max(range.begin, begin);
    ranges_.erase(at, bytes);
    if (range.begin < begin) {
      ranges_.insert(at++, {slot, range.begin, begin, range.deadline}, bytes);
    }
    if (range.end > end) ranges_.insert(at++, {slot, end, range.end, range.deadline}, bytes);
  }
  return taken;
}

void PredictedRanges::put_before(PredictedRanges& head, std::uint32_t length, std::size_t& bytes) {
  PredictedRanges joined;
  for (const PredictedRange& range : head.ranges_) {
    joined.add(range.slot, range.begin, range.end, range.deadline, bytes);
  }
  for (const PredictedRange& range : ranges_) {
    joined.add(range.slot, range.begin + length, range.end + length, range.deadline, bytes);
  }
  head.ranges_.erase(0, head.ranges_.size(), bytes);
  ranges_.erase(0, ranges_.size(), bytes);
  *this = std::move(joined);
}

PredictedRanges PredictedRanges::split_head(std::uint32_t at, std::size_t& bytes) {
  PredictedRanges head;
  PredictedRanges tail;
  for (const PredictedRange& range : ranges_) {
    const std::uint32_t head_end = std::min(range.end, at);
    const std::uint32_t tail_begin = std::max(range.begin, at);
    if (range.begin < head_end) {
      head.ranges_.push_back({range.slot, range.begin, head_end, range.deadline}, bytes);
    }
    if (tail_begin < range.end) {
      tail.ranges_.push_back({range.slot, tail_begin - at, range.end - at, range.deadline}, bytes);
    }
  }
  ranges_.erase(0, ranges_.size(), bytes);
  *this = std::move(tail);
  return head;
}

}  // namespace kvroute::detail
