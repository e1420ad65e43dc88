#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
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
  using Table =
      absl::flat_hash_map<std::uint64_t, Entry, absl::Hash<std::uint64_t>, std::equal_to<>,
                          CountingAllocator<std::pair<const std::uint64_t, Entry>>>;

  explicit SlotNames(std::size_t* bytes)
      : bytes_(bytes), own_(Own::allocator_type(bytes)), further_(Further::allocator_type(bytes)) {
    tables_.emplace_back(Table::allocator_type(bytes));
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  void prefetch(std::uint64_t name) const { table_of(name).prefetch(name); }
  [[nodiscard]] Entry* find(std::uint64_t name) { return find_in(table_of(name), name); }
  [[nodiscard]] const Entry* find(std::uint64_t name) const {
    return find_in(table_of(name), name);
  }
  /// \return the name's entry, valid until the next change, and whether it is new.
  std::pair<Entry*, bool> try_emplace(std::uint64_t name, Entry entry) {
    if (tables_.size() == 1 && size_ >= kLargeTable) divide();
    const auto [found, added] = table_of(name).try_emplace(name, entry);
    size_ += added ? 1 : 0;
    return {&found->second, added};
  }
  void erase(std::uint64_t name) { size_ -= table_of(name).erase(name); }
  template <typename Visit>
  void for_each(Visit visit) const {
    for (const Table& table : tables_) {
      for (const auto& [name, entry] : table) visit(name, entry);
    }
  }

  /// `name` is the one name of a block that the slot did not hold exactly until now.
  void add_first(BlockId block, std::uint64_t name, std::uint64_t& shared_name);
  /// `name` is a further name of a block that the slot holds exactly.
  void add_further(BlockId block, std::uint64_t name) {
    further_.try_emplace(block, CountingAllocator<std::uint64_t>(bytes_))
        .first->second.push_back(name);
  }
  /// `name` no longer stands for the block. \return whether it was the last one.
  bool drop(BlockId block, std::uint64_t name, std::uint64_t shared_name);
  /// Erases all names of a block that the slot holds exactly.
  void forget(BlockId block, std::uint64_t shared_name);

  /// Number of names beyond the first of their blocks.
  [[nodiscard]] std::size_t further() const noexcept;
  /// Makes tables smaller that have emptied, `most` of them.
  void shrink_sparse(std::size_t most);
  static constexpr std::size_t kTablesAtOnce = 2;
  static constexpr std::size_t kAllTables = ~std::size_t{0};

 private:
  using Own = absl::flat_hash_map<BlockId, std::uint64_t, absl::Hash<BlockId>, std::equal_to<>,
                                  CountingAllocator<std::pair<const BlockId, std::uint64_t>>>;

  using Others = std::vector<std::uint64_t, CountingAllocator<std::uint64_t>>;
  using Further = absl::flat_hash_map<BlockId, Others, absl::Hash<BlockId>, std::equal_to<>,
                                      CountingAllocator<std::pair<const BlockId, Others>>>;

  // A slot of many names has many tables, so that none takes long to grow or to shrink.
  static constexpr std::size_t kLargeTable = 14'000;
  static constexpr unsigned kTableBits = 6;

  template <typename AnyTable>
  static auto find_in(AnyTable& table, std::uint64_t name) -> decltype(&table.begin()->second) {
    const auto found = table.find(name);
    return found == table.end() ? nullptr : &found->second;
  }
  [[nodiscard]] std::size_t table_index(std::uint64_t name) const noexcept {
    return tables_.size() == 1 ? 0 : (name * 0x9e3779b97f4a7c15ULL) >> (64 - kTableBits);
  }
  [[nodiscard]] Table& table_of(std::uint64_t name) { return tables_[table_index(name)]; }
  [[nodiscard]] const Table& table_of(std::uint64_t name) const {
    return tables_[table_index(name)];
  }
  void divide();

  std::size_t* bytes_;
  std::size_t size_ = 0;
  std::vector<Table> tables_;
  Own own_;  // first names that differ from the run's
  Further further_;
};

}  // namespace kvroute::detail
