#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "kvroute/index/prefix_tree.h"

namespace kvroute::detail {

/// One prefix tree for each block size in use. Not thread-safe; the trees are.
class IndexPool {
 public:
  explicit IndexPool(IndexOptions options) : options_(options) {}

  /// The tree of that block size; made when its first user comes. Each `acquire` is ended by one
  /// `release`; with its last user the tree goes.
  [[nodiscard]] std::shared_ptr<PrefixTree> acquire(std::uint32_t block_size) {
    Entry& entry = trees_[block_size];
    if (!entry.tree) entry.tree = std::make_shared<PrefixTree>(options_);
    ++entry.users;
    return entry.tree;
  }

  void release(std::uint32_t block_size) {
    const auto found = trees_.find(block_size);
    if (--found->second.users == 0) trees_.erase(found);
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

  IndexOptions options_;
  std::map<std::uint32_t, Entry> trees_;
};

}  // namespace kvroute::detail
