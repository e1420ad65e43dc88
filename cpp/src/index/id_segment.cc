#include "index/id_segment.h"

#include <algorithm>
#include <array>
#include <vector>

namespace kvroute::detail {
namespace {

// The sizes of large segments, in lines: 128 KiB divided by 12, 10, 8, 6, 5, 4 and 3, less what the
// heap takes, so that what some segments leave fits others.
constexpr std::array<std::uint32_t, 7> kLargeSizes{170, 204, 255, 341, 409, 511, 682};
// Segments that would need more are divided: 43 KiB.
constexpr std::uint32_t kMaxLines = kLargeSizes.back();

std::uint32_t limit_of(std::uint32_t lines) {
  const std::uint32_t places = lines * IdSegment::kLineEntries;
  return places - std::max(places / 32 * 3, 1U);
}

// Sizes are 4, 5, 6 and 7 times the powers of two below and above the large ones.
std::uint32_t next_size(std::uint32_t lines) {
  const std::uint32_t next = lines + std::max(std::bit_floor(lines) / 4, 1U);
  if (next <= kLargeSizes.front() || lines >= kMaxLines) return next;
  return *std::ranges::upper_bound(kLargeSizes, lines);
}

std::uint32_t lines_for(std::uint32_t entries) {
  const std::uint32_t wanted = entries + entries / 16 + 1;
  std::uint32_t lines = 1;
  while (limit_of(lines) < wanted) lines = next_size(lines);
  return lines;
}

}  // namespace

// Puts entries into a segment that nothing else has been put into. It counts what each line holds,
// so that no line has to be looked at.
class IdSegment::Filling {
 public:
  explicit Filling(IdSegment& segment)
      : lines_(segment.lines_.get()),
        line_count_(segment.line_count_),
        depth_(segment.depth_),
        held_(segment.line_count_) {}

  // A free place (id kNoId) of an old segment may be put like an entry: it leaves no trace, and
  // saves a branch that no processor could foresee.
  void put(std::uint32_t tag, std::uint32_t id) noexcept {
    auto at = static_cast<std::uint32_t>(std::uint64_t{tag << depth_} * line_count_ >> 32);
    std::uint32_t place = held_[at];
    if (place == kLineEntries) [[unlikely]] {
      if (id == kNoId) return;
      do {
        at = at + 1 == line_count_ ? 0 : at + 1;
        place = held_[at];
      } while (place == kLineEntries);
    }
    lines_[at].tags[place] = tag;
    lines_[at].ids[place] = id;
    held_[at] = static_cast<std::uint16_t>(place + (id == kNoId ? 0U : 1U));
  }

 private:
  Line* lines_;
  std::uint32_t line_count_;
  std::uint32_t depth_;
  std::vector<std::uint16_t> held_;
};

// Calls put(tag, id, whether in the second half) for all places, free ones too. The halves take
// turns: of entries that follow each other most go into the same line, and would have to wait for
// its count.
template <typename Put>
void IdSegment::for_each_place(Put put) const {
  const Line* first = lines_.get();
  const Line* second = first + line_count_ / 2;
  const Line* const middle = second;
  const Line* const end = first + line_count_;
  for (; first != middle; ++first, ++second) {
    for (std::uint32_t i = 0; i < kLineEntries; ++i) {
      put(first->tags[i], first->ids[i], false);
      put(second->tags[i], second->ids[i], true);
    }
  }
  if (second != end) {
    for (std::uint32_t i = 0; i < kLineEntries; ++i) put(second->tags[i], second->ids[i], true);
  }
}

// Below 31/64 the entries of a segment fit one that takes six tenths of its memory or less.
IdSegment::IdSegment(std::uint32_t first_tag, std::uint32_t depth, std::uint32_t entries)
    : line_count_(lines_for(entries)),
      depth_(depth & 0xff),
      prefix_((std::uint64_t{first_tag} >> (32 - depth)) & 0xffffff),
      limit_(limit_of(line_count_)),
      sparse_below_(line_count_ == 1 ? 0 : line_count_ * kLineEntries * 31 / 64) {
  lines_ = std::make_unique_for_overwrite<Line[]>(line_count_);
  Line free;
  free.tags.fill(0);
  free.ids.fill(kNoId);
  std::fill_n(lines_.get(), line_count_, free);
}

bool IdSegment::divisible(std::uint32_t entries) noexcept { return lines_for(entries) > kMaxLines; }

bool IdSegment::joinable(std::uint32_t entries) noexcept {
  return lines_for(entries) <= kMaxLines * 3 / 5;
}

IdSegment IdSegment::rebuilt(const IdSegment& old) {
  IdSegment segment(old.first_tag(), old.depth_, old.size_);
  segment.size_ = old.size_;
  old.for_each_place([filling = Filling(segment)](std::uint32_t tag, std::uint32_t id,
                                                  bool) mutable { filling.put(tag, id); });
  return segment;
}

IdSegment IdSegment::joined(const IdSegment& one, const IdSegment& other) {
  const std::uint32_t size = one.size_ + other.size_;
  IdSegment segment(std::min(one.first_tag(), other.first_tag()), one.depth_ - 1, size);
  segment.size_ = size;
  Filling filling(segment);
  const auto put = [&](std::uint32_t tag, std::uint32_t id, bool) { filling.put(tag, id); };
  one.for_each_place(put);
  other.for_each_place(put);
  return segment;
}

std::pair<IdSegment, IdSegment> IdSegment::divided(const IdSegment& old) {
  const std::uint32_t depth = old.depth_ + 1;
  const std::uint32_t bit = 1U << (32 - depth);
  std::uint32_t ones = 0;
  for (const Line& line : old.lines()) {
    for (std::uint32_t i = 0; i < kLineEntries; ++i) {
      ones += ((line.tags[i] & bit) != 0 ? 1U : 0U) & (line.ids[i] != kNoId ? 1U : 0U);
    }
  }
  IdSegment lower(old.first_tag(), depth, old.size_ - ones);
  IdSegment upper(old.first_tag() | bit, depth, ones);
  lower.size_ = old.size_ - ones;
  upper.size_ = ones;
  // Nearly all of a half goes the same way; what a free place holds must not spoil the forecast.
  old.for_each_place([bit, below = Filling(lower), above = Filling(upper)](
                         std::uint32_t tag, std::uint32_t id, bool second) mutable {
    const bool up = (tag & bit) != 0;
    if (id == kNoId ? second : up) {
      above.put(tag, id);
    } else {
      below.put(tag, id);
    }
  });
  return {std::move(lower), std::move(upper)};
}

// A place in a full line became free: an entry that was turned away from that line takes it, and
// leaves its own place to the next. Lines up to the first that was not full may hold one: each
// entry there whose home does not lie behind the free place.
void IdSegment::refill(std::uint32_t at, std::uint32_t place) noexcept {
  for (std::uint32_t from = after(at);; from = after(from)) {
    Line& line = lines_[from];
    const std::uint32_t free = places(line.ids, kNoId);
    const std::uint32_t first = first_share(after(at));
    const std::uint32_t width = first_share(after(from)) - first;
    std::uint32_t turned_away = 0;
    for (std::uint32_t i = 0; i < kLineEntries; ++i) {
      turned_away |= (line.tags[i] << depth_) - first >= width ? 1U << i : 0U;
    }
    turned_away &= ~free;
    if (turned_away != 0) {
      const std::uint32_t i = first_place(turned_away);
      lines_[at].tags[place] = line.tags[i];
      lines_[at].ids[place] = line.ids[i];
      line.ids[i] = kNoId;
      at = from;
      place = i;
    }
    if (free != 0) return;
  }
}

bool IdSegment::audit() const {
  if (lines_ == nullptr || size_ > limit_) return false;
  std::uint32_t used = 0;
  for (std::uint32_t at = 0; at < line_count_; ++at) {
    for (std::uint32_t i = 0; i < kLineEntries; ++i) {
      if (lines_[at].ids[i] == kNoId) continue;
      const std::uint32_t tag = lines_[at].tags[i];
      if ((std::uint64_t{tag ^ first_tag()} >> (32 - depth_)) != 0) return false;
      for (std::uint32_t before = home(tag); before != at; before = after(before)) {
        if (places(lines_[before].ids, kNoId) != 0) return false;
      }
      ++used;
    }
  }
  return used == size_;
}

}  // namespace kvroute::detail
