#pragma once

#include <absl/container/flat_hash_map.h>
#include <tsl/robin_map.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "index/accounting.h"
#include "index/id_table.h"
#include "index/run_store.h"

namespace kvroute::detail {

/// What a lane knows of names beyond the first one of each block.
class OddNames {
 public:
  /// `fixed_blocks` counts the ids of blocks that are kept here (NodeTree::fixed_blocks).
  OddNames(std::size_t* bytes, std::size_t* fixed_blocks)
      : bytes_(bytes),
        fixed_blocks_(fixed_blocks),
        copies_(Copies::allocator_type(bytes)),
        aliases_(Aliases::allocator_type(bytes)),
        aliases_of_(AliasesOf::allocator_type(bytes)) {}

  [[nodiscard]] bool empty() const noexcept { return copies_.empty() && aliases_.empty(); }
  [[nodiscard]] bool any_alias() const noexcept { return !aliases_.empty(); }

  [[nodiscard]] std::size_t aliases() const noexcept { return aliases_.size(); }
  /// Names with further copies.
  [[nodiscard]] std::size_t copies() const noexcept { return copies_.size(); }

  /// One more copy of the block under this name than was known.
  void add_copy(std::uint64_t name) { ++copies_[name]; }
  void set_copies(std::uint64_t name, std::uint32_t extra) { copies_[name] = extra; }
  /// \return whether there was a further copy, which is gone now.
  bool drop_copy(std::uint64_t name);
  void drop_copies(std::uint64_t name) {
    if (!copies_.empty()) copies_.erase(name);
  }

  /// The block that has `name` as a second or further name; kNoId: none has.
  [[nodiscard]] BlockId find_alias(std::uint64_t name) const;
  void add_alias(BlockId block, std::uint64_t name);
  /// \return whether `name` was an alias of the block.
  bool drop_alias(BlockId block, std::uint64_t name);
  /// Takes out one of the block's aliases; absent if it has none.
  std::optional<std::uint64_t> take_alias(BlockId block);

  /// Calls visit(name, extra copies).
  template <typename Visit>
  void for_each_copy(Visit visit) const {
    for (const auto& entry : copies_) visit(entry.first, entry.second);
  }
  /// Calls visit(name, block).
  template <typename Visit>
  void for_each_alias(Visit visit) const {
    for (const auto& entry : aliases_) visit(entry.first, entry.second);
  }

 private:
  using Copies =
      tsl::robin_map<std::uint64_t, std::uint32_t, absl::Hash<std::uint64_t>, std::equal_to<>,
                     CountingAllocator<std::pair<std::uint64_t, std::uint32_t>>>;
  using Aliases =
      absl::flat_hash_map<std::uint64_t, BlockId, absl::Hash<std::uint64_t>, std::equal_to<>,
                          CountingAllocator<std::pair<const std::uint64_t, BlockId>>>;
  using Others = std::vector<std::uint64_t, CountingAllocator<std::uint64_t>>;
  using AliasesOf = absl::flat_hash_map<BlockId, Others, absl::Hash<BlockId>, std::equal_to<>,
                                        CountingAllocator<std::pair<const BlockId, Others>>>;

  std::size_t* bytes_;
  std::size_t* fixed_blocks_;
  Copies copies_;         // beyond the first, by name
  Aliases aliases_;       // second and further names
  AliasesOf aliases_of_;  // the same by block
};

/// What is known of a lane besides what the nodes' coverage says. The first name of a block that it
/// holds is the run's shared name, or one of its own (RunStore::own_names), which `own` leads back
/// from; all else about names is odd.
struct Holder {
  explicit Holder(std::size_t* name_bytes) : own(name_bytes) {}

  /// Whether its names are the shared ones, without exception.
  [[nodiscard]] bool agrees() const noexcept { return own.size() == 0 && odd == nullptr; }
  /// Whether no block of its has any name but the shared one, of however many copies.
  [[nodiscard]] bool has_shared_names_only() const noexcept {
    return own.size() == 0 && (odd == nullptr || !odd->any_alias());
  }

  std::size_t held = 0;       // exact and predicted
  std::size_t predicted = 0;  // of them
  IdTable own;
  std::unique_ptr<OddNames> odd;
};

}  // namespace kvroute::detail
