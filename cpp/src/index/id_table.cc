#include "index/id_table.h"

#include <algorithm>
#include <array>
#include <random>
#include <utility>

namespace kvroute::detail {
namespace {

std::uint64_t random_bits() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace

// Some bits of the multiplier are fixed, so that it is odd and never small.
// NOLINTNEXTLINE(*-throwing-static-initialization): without random bits the process must not go on
const IdTable::Secret IdTable::kSecret{
    random_bits(), (random_bits() & 0x00ffffff00ffffffULL) | 0xd600000068000001ULL};

void IdTable::swap(IdTable& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(segments_, other.segments_);
  std::swap(directory_, other.directory_);
  std::swap(size_, other.size_);
  std::swap(depth_, other.depth_);
  std::swap(deepest_, other.deepest_);
}

void IdTable::clear() noexcept {
  *bytes_ -= segments_.heap_bytes();
  for (const IdSegment& segment : segments()) *bytes_ -= segment.heap_bytes();
  if (directory_ != nullptr) *bytes_ -= sizeof(std::uint32_t) << depth_;
  segments_ = {};
  directory_.reset();
  size_ = 0;
  depth_ = 0;
  deepest_ = 0;
}

// A table without entries has no segments.
void IdTable::begin() {
  IdSegment segment(0, 0, 0);
  const std::size_t added = segment.heap_bytes();
  segments_.push_back(std::move(segment), *bytes_);
  *bytes_ += added;
  deepest_ = 1;
}

void IdTable::assign(std::uint32_t at, IdSegment segment) noexcept {
  *bytes_ += segment.heap_bytes();
  *bytes_ -= segments_[at].heap_bytes();
  segments_[at] = std::move(segment);
}

void IdTable::rebuild(std::uint32_t at) { assign(at, IdSegment::rebuilt(segments_[at])); }

void IdTable::make_room(std::uint32_t at) {
  const IdSegment& segment = segments_[at];
  // Hashes that agree in many bits must not fill the memory with directories.
  const bool affordable = segment.depth() < depth_ || size_ >> 8 >= std::size_t{2} << depth_;
  if (IdSegment::divisible(segment.size()) && segment.depth() < IdSegment::kMaxDepth &&
      affordable) {
    divide(at);
  } else {
    rebuild(at);
  }
}

void IdTable::divide(std::uint32_t at) {
  if (segments_[at].depth() == depth_) resize_directory(depth_ + 1);
  auto [lower, upper] = IdSegment::divided(segments_[at]);
  const std::uint32_t depth = lower.depth();
  const std::size_t added = upper.heap_bytes();
  segments_.push_back(std::move(upper), *bytes_);
  *bytes_ += added;
  assign(at, std::move(lower));
  direct(segments_.size() - 1);
  if (depth == depth_) deepest_ += 2;
}

void IdTable::give_back(std::uint32_t tag) {
  bool joined = false;
  while (join(segment_of(tag))) joined = true;
  if (!joined) rebuild(segment_of(tag));
}

// With its buddy, whose tags differ in the last of the segment's bits.
bool IdTable::join(std::uint32_t at) {
  const std::uint32_t depth = segments_[at].depth();
  if (depth == 0) return false;
  const std::uint32_t bit = 1U << (32 - depth);
  const std::uint32_t buddy = segment_of(segments_[at].first_tag() ^ bit);
  if (segments_[buddy].depth() != depth) return false;
  if (!IdSegment::joinable(segments_[at].size() + segments_[buddy].size())) return false;
  assign(at, IdSegment::joined(segments_[at], segments_[buddy]));
  direct(at);
  if (depth == depth_) deepest_ -= 2;
  drop(buddy);
  if (deepest_ == 0) resize_directory(depth_ - 1);
  return true;
}

// The last segment takes the place of the dropped one, which nothing leads to any more.
void IdTable::drop(std::uint32_t at) {
  const std::uint32_t last = segments_.size() - 1;
  *bytes_ -= segments_[at].heap_bytes();
  if (at != last) {
    segments_[at] = std::move(segments_[last]);
    direct(at);
  }
  segments_.erase(last, *bytes_);
}

void IdTable::direct(std::uint32_t at) noexcept {
  const IdSegment& segment = segments_[at];
  const std::uint32_t first = segment.first_tag() >> (32 - depth_);
  std::fill_n(directory_.get() + first, std::size_t{1} << (depth_ - segment.depth()), at);
}

void IdTable::resize_directory(std::uint32_t depth) {
  const auto bytes_at = [](std::uint32_t d) { return d == 0 ? 0 : sizeof(std::uint32_t) << d; };
  *bytes_ += bytes_at(depth) - bytes_at(depth_);
  if (depth == 0) {
    directory_.reset();
  } else {
    auto resized = std::make_unique_for_overwrite<std::uint32_t[]>(std::size_t{1} << depth);
    for (std::size_t i = 0; i < std::size_t{1} << depth; ++i) {
      resized[i] = depth_ == 0 ? 0 : depth > depth_ ? directory_[i / 2] : directory_[i * 2];
    }
    directory_ = std::move(resized);
  }
  depth_ = depth;
  deepest_ = static_cast<std::uint32_t>(
      std::ranges::count_if(segments(), [&](const IdSegment& s) { return s.depth() == depth; }));
}

bool IdTable::audit() const {
  if (size_ == 0) return segments_.empty() && directory_ == nullptr && depth_ == 0;
  if ((depth_ == 0) != (directory_ == nullptr)) return false;
  std::size_t entries = 0;
  std::size_t directed = 0;
  std::uint32_t deepest = 0;
  for (std::uint32_t at = 0; at < segments_.size(); ++at) {
    const IdSegment& segment = segments_[at];
    if (segment.depth() > depth_ || !segment.audit()) return false;
    const std::uint32_t width = 1U << (depth_ - segment.depth());
    const std::uint32_t first = depth_ == 0 ? 0 : segment.first_tag() >> (32 - depth_);
    for (std::uint32_t i = 0; depth_ != 0 && i < width; ++i) {
      if (directory_[first + i] != at) return false;
    }
    entries += segment.size();
    directed += width;
    if (segment.depth() == depth_) ++deepest;
  }
  return entries == size_ && directed == std::size_t{1} << depth_ && deepest == deepest_;
}

}  // namespace kvroute::detail
