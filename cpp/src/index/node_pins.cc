#include "index/node_pins.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

namespace kvroute::detail {

std::uint32_t NodePins::position(Slot slot, std::uint32_t end) const noexcept {
  const auto* at = std::lower_bound(entries_.begin(), entries_.end(), std::tuple(slot, end),
                                    [](const PinEntry& entry, const auto& key) {
                                      return std::tuple(entry.slot, entry.end) < key;
                                    });
  return static_cast<std::uint32_t>(at - entries_.begin());
}

bool NodePins::any_ends_at(Slot slot, std::uint32_t end) const noexcept {
  const std::uint32_t at = position(slot, end);
  return at < entries_.size() && entries_[at].slot == slot && entries_[at].end == end &&
         entries_[at].count > entries_[at].below;
}

std::uint32_t NodePins::active(Slot slot) const noexcept {
  const std::uint32_t after = position(slot, std::numeric_limits<std::uint32_t>::max());
  return after > 0 && entries_[after - 1].slot == slot ? entries_[after - 1].end : 0;
}

std::uint32_t NodePins::end() const noexcept {
  std::uint32_t end = 0;
  for (const PinEntry& entry : entries_) end = std::max(end, entry.end);
  return end;
}

std::uint32_t NodePins::add(const PinEntry& pins, std::size_t& bytes) {
  const std::uint32_t before = active(pins.slot);
  const std::uint32_t at = position(pins.slot, pins.end);
  if (at < entries_.size() && entries_[at].slot == pins.slot && entries_[at].end == pins.end) {
    entries_[at].count += pins.count;
    entries_[at].below += pins.below;
  } else {
    entries_.insert(at, pins, bytes);
  }
  return pins.end > before ? pins.end - before : 0;
}

std::uint32_t NodePins::remove(Slot slot, std::uint32_t end, bool below, std::size_t& bytes) {
  const std::uint32_t at = position(slot, end);
  if (below) --entries_[at].below;
  if (--entries_[at].count > 0) return 0;
  entries_.erase(at, bytes);
  const std::uint32_t left = active(slot);
  return end > left ? end - left : 0;
}

// Those of `head` that go on below it are here too.
void NodePins::put_before(NodePins& head, std::uint32_t length, std::size_t& bytes) {
  NodePins joined;
  for (const PinEntry& entry : head.entries_) {
    const std::uint32_t count = entry.count - entry.below;
    if (count > 0) joined.add({entry.slot, entry.end, count}, bytes);
  }
  for (const PinEntry& entry : entries_) {
    joined.add({entry.slot, entry.end + length, entry.count, entry.below}, bytes);
  }
  head.entries_.erase(0, head.entries_.size(), bytes);
  entries_.erase(0, entries_.size(), bytes);
  *this = std::move(joined);
}

NodePins NodePins::split_head(std::uint32_t at, std::size_t& bytes) {
  NodePins head;
  NodePins tail;
  for (const PinEntry& entry : entries_) {
    if (entry.end <= at) {
      head.add(entry, bytes);
    } else {
      head.add({entry.slot, at, entry.count, entry.count}, bytes);
      tail.add({entry.slot, entry.end - at, entry.count, entry.below}, bytes);
    }
  }
  entries_.erase(0, entries_.size(), bytes);
  *this = std::move(tail);
  return head;
}

}  // namespace kvroute::detail
