#include "index/id_segment.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

namespace kvroute::detail {
namespace {

// Below this the homes are one: a sorted list that is filled to its last slot.
constexpr std::uint32_t kListSlots = 16;
constexpr std::uint32_t kTail = 32;

std::uint32_t tail_of(std::uint32_t slots) { return std::min(slots / 8, kTail); }

std::uint32_t limit_of(std::uint32_t slots) {
  if (slots <= kListSlots) return slots - 1;
  const std::uint32_t tail = tail_of(slots);
  const std::uint32_t homes = slots - tail;
  return homes - homes / 8 + tail / 2;
}

// Sizes are 4, 5, 6 and 7 times the powers of two, so that what one segment leaves fits another.
std::uint32_t slots_for(std::uint32_t entries) {
  const std::uint32_t wanted = entries + entries / 16 + 1;
  std::uint32_t slots = IdSegment::kMinSlots;
  while (limit_of(slots) < wanted) {
    slots += slots < kListSlots ? IdSegment::kMinSlots : std::bit_floor(slots) / 4;
  }
  return slots;
}

}  // namespace

IdSegment::IdSegment(std::uint32_t first_tag, std::uint32_t depth, std::span<const Slots> parts)
    : depth_(depth & 0xff), prefix_((std::uint64_t{first_tag} >> (32 - depth)) & 0xffffff) {
  for (const Slots part : parts) {
    size_ += static_cast<std::uint32_t>(
        std::ranges::count_if(part, [](std::uint64_t slot) { return slot != kFree; }));
  }
  const std::uint32_t slots = slots_for(size_);
  std::uint32_t tail = slots <= kListSlots ? slots - 1 : tail_of(slots);
  const std::uint32_t homes = slots - tail;
  for (;;) {
    allocate(homes, tail);
    const std::uint32_t end = lay_out(parts);
    if (end + 2 <= slot_count_) break;
    // Many entries of the highest tags: room for as many again.
    tail = 2 * (end + 2 - homes);
  }
  limit_ = limit_of(slots);
  sparse_below_ = slots == kMinSlots ? 0 : slots / 2;
}

bool IdSegment::divisible(std::uint32_t entries) noexcept { return slots_for(entries) > kMaxSlots; }

bool IdSegment::joinable(std::uint32_t entries) noexcept {
  return slots_for(entries) <= kMaxSlots / 7 * 4;
}

void IdSegment::allocate(std::uint32_t homes, std::uint32_t tail) {
  slot_count_ = homes + tail;
  homes_ = homes;
  slots_ = std::make_unique_for_overwrite<std::uint64_t[]>(slot_count_);
  std::fill_n(slots_.get(), slot_count_, kFree);
}

// Returns the end of the entries, which is too high if the tail is too short for them. Free of
// branches: an entry's place is its rank plus the largest lead of a home over its entry's rank so
// far; a free slot changes nothing and is written where the next entry will be.
std::uint32_t IdSegment::lay_out(std::span<const Slots> parts) noexcept {
  std::uint64_t* const out = slots_.get();
  const std::int64_t last = std::int64_t{slot_count_} - 1;
  std::int64_t lead = 0;
  std::int64_t rank = 0;
  for (const Slots part : parts) {
    for (const std::uint64_t slot : part) {
      const bool used = slot != kFree;
      const auto home =
          static_cast<std::int64_t>(std::uint64_t{tag_of(slot) << depth_} * homes_ >> 32);
      lead = std::max(lead, used ? home - rank : 0);
      out[std::min(lead + rank, last)] = slot;
      rank += used ? 1 : 0;
    }
  }
  return static_cast<std::uint32_t>(lead + rank);
}

bool IdSegment::replace(std::uint64_t from, std::uint64_t to) noexcept {
  std::uint64_t* slot = locate(from);
  if (slot == nullptr) return false;
  // Entries of one tag are in the order of their ids.
  for (; slot[1] < to; ++slot) *slot = slot[1];
  for (; slot != slots_.get() && slot[-1] > to && slot[-1] != kFree; --slot) *slot = slot[-1];
  *slot = to;
  return true;
}

std::pair<IdSegment::Slots, IdSegment::Slots> IdSegment::divided(std::uint32_t tag) const noexcept {
  const std::uint64_t* slot = home(tag);
  while (*slot < entry(tag, 0)) ++slot;
  const auto below = static_cast<std::size_t>(slot - slots_.get());
  return {slots().first(below), slots().subspan(below)};
}

bool IdSegment::audit() const {
  if (slots_ == nullptr || slots().back() != kFree) return false;
  std::uint32_t used = 0;
  std::uint64_t last = 0;
  for (std::uint32_t at = 0; at < slot_count_; ++at) {
    const std::uint64_t slot = slots_[at];
    if (slot == kFree) continue;
    const std::uint32_t tag = tag_of(slot);
    if (static_cast<std::uint32_t>(slot) == kNoId || slot < last) return false;
    if (depth_ != 0 && (tag ^ first_tag()) >> (32 - depth_) != 0) return false;
    const std::uint64_t* const place = slots_.get() + at;
    if (home(tag) > place) return false;
    if (home(tag) != place && place[-1] == kFree) return false;
    last = slot;
    ++used;
  }
  return used == size_ && (limit_ == 0 || size_ <= limit_);
}

}  // namespace kvroute::detail
