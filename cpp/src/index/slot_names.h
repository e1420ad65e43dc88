#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "index/accounting.h"
#include "index/run_store.h"

namespace kvroute::detail {

/// Under which engine hash a slot knows which block.
///
/// The way back, from a block to its name, costs nothing where the slot agrees with the first one
/// that announced the block (the run keeps that name); a name that deviates, and the second and
/// further names of one block, are kept here.
class SlotNames {
 public:
  struct Entry {
    BlockId block;
    std::uint32_t copies;
  };
  using Names =
      absl::flat_hash_map<std::uint64_t, Entry, absl::Hash<std::uint64_t>, std::equal_to<>,
                          CountingAllocator<std::pair<const std::uint64_t, Entry>>>;

  explicit SlotNames(std::size_t* bytes)
      : names_(Names::allocator_type(bytes)), own_(Own::allocator_type(bytes)) {}

  [[nodiscard]] Names& names() noexcept { return names_; }
  [[nodiscard]] const Names& names() const noexcept { return names_; }
  [[nodiscard]] const Entry* find(std::uint64_t name) const {
    const auto found = names_.find(name);
    return found == names_.end() ? nullptr : &found->second;
  }

  /// `name` is the one name of a block that the slot did not hold exactly until now.
  void add_first(BlockId block, std::uint64_t name, std::uint64_t& shared_name);
  /// `name` is a further name of a block that the slot holds exactly.
  void add_further(BlockId block, std::uint64_t name) { further_[block].push_back(name); }
  /// `name` no longer stands for the block. \return whether it was the last one.
  bool drop(BlockId block, std::uint64_t name, std::uint64_t shared_name);
  /// Erases all names of a block that the slot holds exactly.
  void forget(BlockId block, std::uint64_t shared_name);

  /// Number of names beyond the first of their blocks.
  [[nodiscard]] std::size_t further() const noexcept;
  /// Gives back memory that a smaller table would not need.
  void shrink();
  void shrink_if_sparse() {
    if (names_.capacity() > 64 && names_.size() < names_.capacity() / 8) shrink();
  }

 private:
  using Own = absl::flat_hash_map<BlockId, std::uint64_t, absl::Hash<BlockId>, std::equal_to<>,
                                  CountingAllocator<std::pair<const BlockId, std::uint64_t>>>;

  Names names_;
  Own own_;  // first names that differ from the run's
  absl::flat_hash_map<BlockId, std::vector<std::uint64_t>> further_;
};

}  // namespace kvroute::detail
