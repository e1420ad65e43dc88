#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace kvroute::detail {

inline constexpr std::uint32_t kNoId = std::numeric_limits<std::uint32_t>::max();

/// A multimap from 64-bit keys to 32-bit ids that does not store the keys: whoever owns the ids
/// knows the keys, and says with a predicate whether an id found under a key's hash is meant.
///
/// For the names of blocks (key: engine hash, id: block) and the edges of the tree (key: parent
/// and first label, id: child). An entry takes 8 bytes, 32 bits of the key's hash and the id; the
/// entries of a segment lie in the order of their hashes, so that a segment grows, shrinks and is
/// divided by one pass over its memory, without looking at any key. Segments are small, and each is
/// changed by itself (extendible hashing: Fagin et al., 1979), so no single operation takes longer
/// than a pass over one of them, however many entries there are.
///
/// Not thread-safe. Adds what it allocates to `*bytes`, which outlives it.
class IdTable {
 public:
  explicit IdTable(std::size_t* bytes);

  [[nodiscard]] std::size_t size() const noexcept;

  /// Brings the cache line where the key's entry would be.
  void prefetch(std::uint64_t key) const noexcept;

  /// The first id under the key's hash for which `is_meant(id)` is true; kNoId if there is none.
  /// `is_meant` is called for ids of equal hash only.
  template <typename IsMeant>
  [[nodiscard]] std::uint32_t find(std::uint64_t key, IsMeant is_meant) const;

  /// `find`, and where there is none, adds (key, id). \return what was found, kNoId if it was added.
  template <typename IsMeant>
  std::uint32_t find_or_insert(std::uint64_t key, std::uint32_t id, IsMeant is_meant);

  /// Adds (key, id), which must not be in the table.
  void insert(std::uint64_t key, std::uint32_t id);

  /// Takes out (key, id). \return false if it was not in the table.
  bool erase(std::uint64_t key, std::uint32_t id);

  /// (key, from) becomes (key, to), in place. \return false if it was not in the table.
  bool replace(std::uint64_t key, std::uint32_t from, std::uint32_t to);

  /// Calls visit(id) for each entry, in no order that means anything.
  template <typename Visit>
  void for_each(Visit visit) const;

  /// Takes out everything and gives the memory back.
  void clear();

  /// Whether the table is in order in itself; for audits.
  [[nodiscard]] bool audit() const;
};

}  // namespace kvroute::detail
