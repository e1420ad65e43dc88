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

bool NodePins::contains(Slot slot, std::uint32_t end) const noexcept {
  const std::uint32_t at = position(slot, end);
  return at < entries_.size() && entries_[at].slot == slot && entries_[at].end == end;
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

std::uint32_t NodePins::add(Slot slot, std::uint32_t end, std::uint32_t count, std::size_t& bytes) {
  const std::uint32_t before = active(slot);
  const std::uint32_t at = position(slot, end);
  if (at < entries_.size() && entries_[at].slot == slot && entries_[at].end == end) {
    entries_[at].count += count;
  } else {
    entries_.insert(at, {slot, end, count}, bytes);
  }
  return end > before ? end - before : 0;
}

std::optional<std::uint32_t> NodePins::remove(Slot slot, std::uint32_t end, std::size_t& bytes) {
  if (!contains(slot, end)) return std::nullopt;
  const std::uint32_t at = position(slot, end);
  if (--entries_[at].count > 0) return 0;
  entries_.erase(at, bytes);
  const std::uint32_t left = active(slot);
  return end > left ? end - left : 0;
}

// Of the pins at the end of `head`, those that go on below it are here too.
void NodePins::put_before(NodePins& head, std::uint32_t length, std::size_t& bytes) {
  NodePins joined;
  for (const PinEntry& entry : head.entries_) {
    std::uint32_t count = entry.count;
    if (entry.end == length) {
      for (const PinEntry& below : entries_) {
        if (below.slot == entry.slot) count -= below.count;
      }
    }
    if (count > 0) joined.add(entry.slot, entry.end, count, bytes);
  }
  for (const PinEntry& entry : entries_) {
    joined.add(entry.slot, entry.end + length, entry.count, bytes);
  }
  head.entries_.erase(0, head.entries_.size(), bytes);
  entries_.erase(0, entries_.size(), bytes);
  *this = std::move(joined);
}

NodePins NodePins::split_head(std::uint32_t at, std::size_t& bytes) {
  NodePins head;
  NodePins tail;
  for (const PinEntry& entry : entries_) {
    head.add(entry.slot, std::min(entry.end, at), entry.count, bytes);
    if (entry.end > at) tail.add(entry.slot, entry.end - at, entry.count, bytes);
  }
  entries_.erase(0, entries_.size(), bytes);
  *this = std::move(tail);
  return head;
}

}  // namespace kvroute::detail
