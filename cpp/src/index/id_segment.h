#pragma once

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>

namespace kvroute::detail {

inline constexpr std::uint32_t kNoId = std::numeric_limits<std::uint32_t>::max();

/// A part of an IdTable: the entries (tag, id) whose tags begin with the same `depth` bits.
///
/// Entries lie in lines of eight, a cache line each. An entry's home is its tag's share of the
/// range of tags, scaled to the number of lines; where that line is full, the entry lies in the
/// next one that was not (behind the last line comes the first). Within a line there is no order,
/// so that eight tags are compared at once and hardly any branch depends on the data. A pass over
/// the lines meets the entries nearly in the order of their tags: building another segment from
/// them reads and writes memory in sequence, and looks at no key.
class IdSegment {
 public:
  static constexpr std::uint32_t kLineEntries = 8;
  static constexpr std::uint32_t kMaxDepth = 24;

  struct alignas(64) Line {
    std::array<std::uint32_t, kLineEntries> tags;
    std::array<std::uint32_t, kLineEntries> ids;  // kNoId: free
  };

  /// Without memory: good for nothing but to be assigned to.
  IdSegment() = default;

  /// Room for `entries` and some more, whose tags begin with the first `depth` bits of `first_tag`.
  IdSegment(std::uint32_t first_tag, std::uint32_t depth, std::uint32_t entries);

  /// As much room as the old segment's entries need now, and them.
  [[nodiscard]] static IdSegment rebuilt(const IdSegment& old);
  /// The entries whose next bit is 0, and those whose next bit is 1.
  [[nodiscard]] static std::pair<IdSegment, IdSegment> divided(const IdSegment& old);
  /// Two that were one, in any order.
  [[nodiscard]] static IdSegment joined(const IdSegment& one, const IdSegment& other);

  /// The lowest tag that belongs to it.
  [[nodiscard]] std::uint32_t first_tag() const noexcept {
    return depth_ == 0 ? 0 : std::uint32_t{prefix_} << (32 - depth_);
  }
  [[nodiscard]] std::uint32_t depth() const noexcept { return depth_; }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] std::span<const Line> lines() const noexcept { return {lines_.get(), line_count_}; }
  [[nodiscard]] std::size_t heap_bytes() const noexcept {
    return std::size_t{line_count_} * sizeof(Line);
  }

  /// Whether no more can be inserted before the segment is rebuilt or divided.
  [[nodiscard]] bool full() const noexcept { return size_ >= limit_; }
  /// Whether it takes clearly less memory when it is rebuilt.
  [[nodiscard]] bool sparse() const noexcept { return size_ < sparse_below_; }
  /// Whether a segment of so many entries is divided rather than enlarged when it is full.
  [[nodiscard]] static bool divisible(std::uint32_t entries) noexcept;
  /// Whether so many entries are few enough for one segment instead of two.
  [[nodiscard]] static bool joinable(std::uint32_t entries) noexcept;

  void prefetch(std::uint32_t tag) const noexcept {
    __builtin_prefetch(&lines_[home(tag)], 1);
#ifdef __GNUC__
    // For g++ 12 a function that does nothing but prefetch has no effect, and it drops the calls.
    asm volatile("");
#endif
  }

  template <typename IsMeant>
  [[nodiscard]] std::uint32_t find(std::uint32_t tag, IsMeant&& is_meant) const {
    for (std::uint32_t at = home(tag);; at = after(at)) {
      const Line& line = lines_[at];
      for (std::uint32_t equal = places(line.tags, tag); equal != 0; equal &= equal - 1) {
        const std::uint32_t id = line.ids[first_place(equal)];
        if (id != kNoId && is_meant(id)) return id;
      }
      if (places(line.ids, kNoId) != 0) return kNoId;
    }
  }

  /// `find`, and where there is none, adds the entry. Requires !full().
  template <typename IsMeant>
  std::uint32_t find_or_insert(std::uint32_t tag, std::uint32_t id, IsMeant&& is_meant) {
    for (std::uint32_t at = home(tag);; at = after(at)) {
      Line& line = lines_[at];
      for (std::uint32_t equal = places(line.tags, tag); equal != 0; equal &= equal - 1) {
        const std::uint32_t known = line.ids[first_place(equal)];
        if (known != kNoId && is_meant(known)) return known;
      }
      if (const std::uint32_t free = places(line.ids, kNoId); free != 0) {
        line.tags[first_place(free)] = tag;
        line.ids[first_place(free)] = id;
        ++size_;
        return kNoId;
      }
    }
  }

  /// Requires !full().
  void insert(std::uint32_t tag, std::uint32_t id) noexcept {
    std::uint32_t at = home(tag);
    std::uint32_t free = places(lines_[at].ids, kNoId);
    while (free == 0) free = places(lines_[at = after(at)].ids, kNoId);
    lines_[at].tags[first_place(free)] = tag;
    lines_[at].ids[first_place(free)] = id;
    ++size_;
  }

  /// \return false if there is no such entry.
  bool erase(std::uint32_t tag, std::uint32_t id) noexcept {
    const auto [at, place] = locate(tag, id);
    if (place == kLineEntries) return false;
    const bool was_full = places(lines_[at].ids, kNoId) == 0;
    lines_[at].ids[place] = kNoId;
    --size_;
    if (was_full) refill(at, place);
    return true;
  }

  /// \return false if there is no entry (tag, from).
  bool replace(std::uint32_t tag, std::uint32_t from, std::uint32_t to) noexcept {
    const auto [at, place] = locate(tag, from);
    if (place == kLineEntries) return false;
    lines_[at].ids[place] = to;
    return true;
  }

  [[nodiscard]] bool audit() const;

 private:
  class Filling;
  struct Location {
    std::uint32_t line;
    std::uint32_t place;  // kLineEntries: nowhere
  };

  // One bit for each place that holds `value`. SSE2, which every x86-64 has, makes a third
  // less of the whole of a find than what compilers make of the loop.
  [[nodiscard]] static std::uint32_t places(const std::array<std::uint32_t, kLineEntries>& of,
                                            std::uint32_t value) noexcept {
#ifdef __SSE2__
    const __m128i wanted = _mm_set1_epi32(static_cast<int>(value));
    const auto* words = reinterpret_cast<const __m128i*>(of.data());
    const __m128i low = _mm_cmpeq_epi32(_mm_load_si128(words), wanted);
    const __m128i high = _mm_cmpeq_epi32(_mm_load_si128(words + 1), wanted);
    return static_cast<std::uint32_t>(
        _mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128())));
#else
    std::uint32_t bits = 0;
    for (std::uint32_t i = 0; i < kLineEntries; ++i) bits |= (of[i] == value ? 1U : 0U) << i;
    return bits;
#endif
  }
  [[nodiscard]] static std::uint32_t first_place(std::uint32_t bits) noexcept {
    return static_cast<std::uint32_t>(std::countr_zero(bits));
  }
  [[nodiscard]] std::uint32_t home(std::uint32_t tag) const noexcept {
    return static_cast<std::uint32_t>(std::uint64_t{tag << depth_} * line_count_ >> 32);
  }
  [[nodiscard]] std::uint32_t after(std::uint32_t at) const noexcept {
    return at + 1 == line_count_ ? 0 : at + 1;
  }
  /// The lowest tag, without the bits that all have in common, whose home is that line.
  [[nodiscard]] std::uint32_t first_share(std::uint32_t line) const noexcept {
    return static_cast<std::uint32_t>(((std::uint64_t{line} << 32) + line_count_ - 1) /
                                      line_count_);
  }
  [[nodiscard]] Location locate(std::uint32_t tag, std::uint32_t id) const noexcept {
    for (std::uint32_t at = home(tag);; at = after(at)) {
      const Line& line = lines_[at];
      const std::uint32_t equal = places(line.ids, id) & places(line.tags, tag);
      if (equal != 0 && id != kNoId) return {at, first_place(equal)};
      if (places(line.ids, kNoId) != 0) return {0, kLineEntries};
    }
  }
  template <typename Put>
  void for_each_place(Put put) const;
  void refill(std::uint32_t at, std::uint32_t place) noexcept;

  std::unique_ptr<Line[]> lines_;
  std::uint32_t line_count_ = 0;
  std::uint32_t depth_ : 8 = 0;
  std::uint32_t prefix_ : 24 = 0;
  std::uint32_t size_ = 0;
  std::uint32_t limit_ = 0;  // of the size
  std::uint32_t sparse_below_ = 0;
};

}  // namespace kvroute::detail
