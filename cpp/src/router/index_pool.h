#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "kvroute/index/prefix_tree.h"

namespace kvroute::detail {

/// One prefix tree for each block size in use. The memory limit is that of all together: each tree
/// gets an equal share, but at least 1 MiB. Not thread-safe; the trees are.
class IndexPool {
 public:
  explicit IndexPool(IndexOptions options) : options_(options) {}

  /// The tree of that block size; made when its first user comes. Each `acquire` is ended by one
  /// `release`; with its last user the tree goes.
  [[nodiscard]] std::shared_ptr<PrefixTree> acquire(std::uint32_t block_size) {
    auto found = trees_.find(block_size);
    if (found == trees_.end()) {
      IndexOptions options = options_;
      options.memory_limit = share_of(trees_.size() + 1);
      found = trees_.emplace(block_size, Entry{std::make_shared<PrefixTree>(options)}).first;
      divide();
    }
    ++found->second.users;
    return found->second.tree;
  }

  void release(std::uint32_t block_size) {
    const auto found = trees_.find(block_size);
    if (--found->second.users > 0) return;
    trees_.erase(found);
    divide();
  }

  /// What each of `trees` trees may occupy.
  [[nodiscard]] std::optional<std::size_t> share_of(std::size_t trees) const {
    constexpr std::size_t kSmallest = std::size_t{1} << 20;
    if (!options_.memory_limit) return std::nullopt;
    return std::max(kSmallest, *options_.memory_limit / std::max<std::size_t>(trees, 1));
  }

  /// The tree of a size that is in use, beyond what the pool may do to it.
  [[nodiscard]] std::shared_ptr<PrefixTree> share(std::uint32_t block_size) const {
    return trees_.at(block_size).tree;
  }

  /// Null if nobody uses that size.
  [[nodiscard]] PrefixTree* find(std::uint32_t block_size) const {
    const auto found = trees_.find(block_size);
    return found == trees_.end() ? nullptr : found->second.tree.get();
  }

  /// Calls `visit(block_size, tree)` for each, by ascending size.
  template <typename Visitor>
  void for_each(Visitor&& visit) const {
    for (const auto& [block_size, entry] : trees_) visit(block_size, *entry.tree);
  }

  [[nodiscard]] std::size_t size() const noexcept { return trees_.size(); }

 private:
  struct Entry {
    std::shared_ptr<PrefixTree> tree;
    std::size_t users = 0;
  };

  void divide() {
    if (!options_.memory_limit) return;
    for (const auto& [block_size, entry] : trees_) {
      entry.tree->set_memory_limit(share_of(trees_.size()));
    }
  }

  IndexOptions options_;
  std::map<std::uint32_t, Entry> trees_;
};

}  // namespace kvroute::detail
