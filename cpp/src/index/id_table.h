#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "index/accounting.h"
#include "index/id_segment.h"

namespace kvroute::detail {

/// A multimap from 64-bit keys to 32-bit ids that does not store the keys: whoever owns the ids
/// knows the keys, and says with a predicate whether an id found under a key's hash is meant.
///
/// For the names of blocks (key: engine hash, id: block) and the edges of the tree (key: parent
/// and first label, id: child). An entry takes 8 bytes, 32 bits of the key's hash and the id; the
/// lines of a segment are nearly in the order of the hashes, so that a segment grows, shrinks and
/// is divided by passes over its memory, without looking at any key. Segments are small, and each
/// is changed by itself (extendible hashing: Fagin et al., 1979), so no single operation takes
/// longer than a few passes over one of them, however many entries there are; but for the doubling
/// and halving of the directory of segments. Very many ids under one key make one large segment.
///
/// Not thread-safe. Adds what it allocates to `*bytes`, which outlives it.
class IdTable {
 public:
  explicit IdTable(std::size_t* bytes) noexcept : bytes_(bytes) {}
  IdTable(IdTable&& other) noexcept : IdTable(other.bytes_) { swap(other); }
  IdTable& operator=(IdTable&& other) noexcept {
    swap(other);
    return *this;
  }
  IdTable(const IdTable&) = delete;
  IdTable& operator=(const IdTable&) = delete;
  ~IdTable() { clear(); }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  /// Brings the cache line where the key's entry would be.
  void prefetch(std::uint64_t key) const noexcept {
    const std::uint32_t tag = tag_of(key);
    if (size_ != 0) segments_[segment_of(tag)].prefetch(tag);
  }

  /// The first id under the key's hash for which `is_meant(id)` is true; kNoId if there is none.
  /// `is_meant` is called for ids whose 32 bits of hash are equal only: among 10^8 entries one
  /// search in 43 asks about an id of another key.
  template <typename IsMeant>
  [[nodiscard]] std::uint32_t find(std::uint64_t key, IsMeant is_meant) const {
    const std::uint32_t tag = tag_of(key);
    return size_ == 0 ? kNoId : segments_[segment_of(tag)].find(tag, is_meant);
  }

  /// `find`, and where there is none, adds (key, id). \return what was found, kNoId if it was
  /// added.
  template <typename IsMeant>
  std::uint32_t find_or_insert(std::uint64_t key, std::uint32_t id, IsMeant is_meant) {
    const std::uint32_t tag = tag_of(key);
    const std::uint32_t found = roomy_segment(tag).find_or_insert(tag, id, is_meant);
    if (found == kNoId) ++size_;
    return found;
  }

  /// Adds (key, id), which must not be in the table.
  void insert(std::uint64_t key, std::uint32_t id) {
    const std::uint32_t tag = tag_of(key);
    roomy_segment(tag).insert(tag, id);
    ++size_;
  }

  /// Takes out (key, id). \return false if it was not in the table.
  bool erase(std::uint64_t key, std::uint32_t id) {
    if (size_ == 0) return false;
    const std::uint32_t tag = tag_of(key);
    IdSegment& segment = segments_[segment_of(tag)];
    if (!segment.erase(tag, id)) return false;
    if (--size_ == 0) {
      clear();
    } else if (segment.sparse()) {
      give_back(tag);
    }
    return true;
  }

  /// (key, from) becomes (key, to), in place. \return false if it was not in the table.
  bool replace(std::uint64_t key, std::uint32_t from, std::uint32_t to) {
    const std::uint32_t tag = tag_of(key);
    return size_ != 0 && segments_[segment_of(tag)].replace(tag, from, to);
  }

  /// Calls visit(id) for each entry, in no order that means anything.
  template <typename Visit>
  void for_each(Visit visit) const {
    for (const IdSegment& segment : segments()) {
      for (const IdSegment::Line& line : segment.lines()) {
        for (const std::uint32_t id : line.ids) {
          if (id != kNoId) visit(id);
        }
      }
    }
  }

  /// Takes out everything and gives the memory back.
  void clear() noexcept;

  /// Whether the table is in order in itself; for audits.
  [[nodiscard]] bool audit() const;

 private:
  __extension__ using Wide = unsigned __int128;

  // Of this process, so that nobody outside can choose keys that meet in one place.
  struct Secret {
    std::uint64_t mask;
    std::uint64_t multiplier;  // odd
  };
  static const Secret kSecret;

  // The upper half of a folded product (Wang Yi's mum), whose upper bits depend on all of the key.
  [[nodiscard]] static std::uint32_t tag_of(std::uint64_t key) noexcept {
    const Wide product = static_cast<Wide>(key ^ kSecret.mask) * kSecret.multiplier;
    return static_cast<std::uint32_t>(
        (static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64)) >> 32);
  }
  [[nodiscard]] std::uint32_t segment_of(std::uint32_t tag) const noexcept {
    return depth_ == 0 ? 0 : directory_[tag >> (32 - depth_)];
  }
  [[nodiscard]] std::span<const IdSegment> segments() const noexcept {
    return segments_.empty() ? std::span<const IdSegment>{}
                             : std::span<const IdSegment>{&segments_[0], segments_.size()};
  }
  /// The segment of the tag, which is not full.
  [[nodiscard]] IdSegment& roomy_segment(std::uint32_t tag) {
    if (segments_.empty()) begin();
    std::uint32_t at = segment_of(tag);
    while (segments_[at].full()) {
      make_room(at);
      at = segment_of(tag);
    }
    return segments_[at];
  }
  void swap(IdTable& other) noexcept;
  void begin();
  void make_room(std::uint32_t at);
  void divide(std::uint32_t at);
  void give_back(std::uint32_t tag);
  bool join(std::uint32_t at);
  void rebuild(std::uint32_t at);
  void assign(std::uint32_t at, IdSegment segment) noexcept;
  void drop(std::uint32_t at);
  void direct(std::uint32_t at) noexcept;
  void resize_directory(std::uint32_t depth);

  std::size_t* bytes_;
  CompactVector<IdSegment> segments_;
  std::unique_ptr<std::uint32_t[]> directory_;  // of 2^depth_ segments; none while depth_ is 0
  std::size_t size_ = 0;
  std::uint32_t depth_ = 0;
  std::uint32_t deepest_ = 0;  // segments whose depth is depth_
};

}  // namespace kvroute::detail
