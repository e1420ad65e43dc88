#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>

namespace kvroute::detail {

inline constexpr std::uint32_t kNoId = std::numeric_limits<std::uint32_t>::max();

/// A part of an IdTable: the entries whose tags begin with the same `depth` bits.
///
/// An entry is one word, its tag above its id; a free slot is all ones, above every entry. The
/// entries lie in ascending order, each at its home (the tag's share of the range of tags, scaled
/// to the number of homes) or in the first place behind it that the order leaves (ordered linear
/// probing: Amble and Knuth, 1974). Behind the last home follows a tail; its last slot stays free,
/// so that no search needs a bound. All that is done to the whole segment is a pass over its slots
/// in their order.
class IdSegment {
 public:
  using Slots = std::span<const std::uint64_t>;

  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  /// Segments of so many slots are divided instead of enlarged: 112 KiB.
  static constexpr std::uint32_t kMaxSlots = 7U << 11;
  static constexpr std::uint32_t kMinSlots = 4;
  static constexpr std::uint32_t kMaxDepth = 24;

  [[nodiscard]] static constexpr std::uint64_t entry(std::uint32_t tag, std::uint32_t id) noexcept {
    return std::uint64_t{tag} << 32 | id;
  }

  /// Without memory: good for nothing but to be assigned to.
  IdSegment() = default;

  /// The entries of `parts`, which follow each other in order, all of whose tags begin with the
  /// first `depth` bits of `first_tag`; with room for more.
  IdSegment(std::uint32_t first_tag, std::uint32_t depth, std::span<const Slots> parts);

  /// The lowest tag that belongs to it.
  [[nodiscard]] std::uint32_t first_tag() const noexcept {
    return depth_ == 0 ? 0 : std::uint32_t{prefix_} << (32 - depth_);
  }
  [[nodiscard]] std::uint32_t depth() const noexcept { return depth_; }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] Slots slots() const noexcept { return {slots_.get(), slot_count_}; }
  [[nodiscard]] std::size_t heap_bytes() const noexcept {
    return std::size_t{slot_count_} * sizeof(std::uint64_t);
  }

  /// Whether no more can be inserted before the segment is built anew or divided.
  [[nodiscard]] bool full() const noexcept { return size_ >= limit_; }
  /// Whether it would take clearly less memory if it were built anew.
  [[nodiscard]] bool sparse() const noexcept { return size_ < sparse_below_; }
  /// Whether a segment of so many entries is divided rather than enlarged when it is full.
  [[nodiscard]] static bool divisible(std::uint32_t entries) noexcept;
  /// Whether so many entries are few enough for one segment instead of two.
  [[nodiscard]] static bool joinable(std::uint32_t entries) noexcept;

  void prefetch(std::uint32_t tag) const noexcept { __builtin_prefetch(home(tag)); }

  template <typename IsMeant>
  [[nodiscard]] std::uint32_t find(std::uint32_t tag, IsMeant&& is_meant) const {
    const std::uint64_t wanted = entry(tag, 0);
    const std::uint64_t* slot = home(tag);
    while (*slot < wanted) ++slot;
    for (std::uint64_t id = *slot - wanted; id < kNoId; id = *++slot - wanted) {
      if (is_meant(static_cast<std::uint32_t>(id))) return static_cast<std::uint32_t>(id);
    }
    return kNoId;
  }

  /// Requires !full().
  void insert(std::uint64_t entry) noexcept {
    std::uint64_t* slot = home(tag_of(entry));
    while (*slot < entry) ++slot;
    std::uint64_t moved = entry;
    while (moved != kFree) {
      const std::uint64_t next = *slot;
      *slot++ = moved;
      moved = next;
    }
    ++size_;
    if (slot + 1 == slots_.get() + slot_count_) limit_ = 0;  // the tail is used up
  }

  /// \return false if there is no such entry.
  bool erase(std::uint64_t entry) noexcept {
    std::uint64_t* slot = locate(entry);
    if (slot == nullptr) return false;
    for (std::uint64_t next = slot[1]; next != kFree && home(tag_of(next)) != slot + 1;
         next = slot[1]) {
      *slot++ = next;
    }
    *slot = kFree;
    --size_;
    return true;
  }

  /// \return false if there is no entry `from`; `to` is of the same tag.
  bool replace(std::uint64_t from, std::uint64_t to) noexcept;

  /// The slots whose tags are below and not below `tag`, which begins with the segment's bits.
  [[nodiscard]] std::pair<Slots, Slots> divided(std::uint32_t tag) const noexcept;

  [[nodiscard]] bool audit() const;

 private:
  [[nodiscard]] static constexpr std::uint32_t tag_of(std::uint64_t entry) noexcept {
    return static_cast<std::uint32_t>(entry >> 32);
  }
  [[nodiscard]] std::uint64_t* home(std::uint32_t tag) const noexcept {
    return slots_.get() + (std::uint64_t{tag << depth_} * homes_ >> 32);
  }
  [[nodiscard]] std::uint64_t* locate(std::uint64_t entry) const noexcept {
    std::uint64_t* slot = home(tag_of(entry));
    while (*slot < entry) ++slot;
    return *slot == entry && entry != kFree ? slot : nullptr;
  }
  void allocate(std::uint32_t homes, std::uint32_t tail);
  [[nodiscard]] std::uint32_t lay_out(std::span<const Slots> parts) noexcept;

  std::unique_ptr<std::uint64_t[]> slots_;
  std::uint32_t homes_ = 0;
  std::uint32_t depth_ : 8 = 0;
  std::uint32_t prefix_ : 24 = 0;
  std::uint32_t size_ = 0;
  std::uint32_t limit_ = 0;  // of the size; 0 when the tail is used up
  std::uint32_t sparse_below_ = 0;
  std::uint32_t slot_count_ = 0;
};

}  // namespace kvroute::detail
