#pragma once

#include <absl/container/flat_hash_set.h>

#include <cstddef>

#include "index/accounting.h"

namespace kvroute::detail {

/// The neighbours of an item in its queue: a ring, in which the oldest follows the newest.
template <typename Item>
struct QueueLink {
  Item* older = nullptr;
  Item* newer = nullptr;
};

/// Queues of items of others, one for each key, oldest first. An item keeps its key and its place
/// in memory while it is in a queue. Every operation is one look-up, however long the queue is.
///
/// `Traits` names the `Item`, its `Key` (hashable by Abseil), and gives `key_of(item)` and
/// `link_of(item)`.
template <typename Traits>
class KeyedQueues {
  using Item = typename Traits::Item;
  using Key = typename Traits::Key;

 public:
  explicit KeyedQueues(std::size_t* bytes)  // NOLINT(*-non-const-parameter): allocators add to it
      : oldest_(Allocator(bytes)) {}

  /// The oldest item of this key, or nullptr.
  [[nodiscard]] Item* front(const Key& key) const {
    const auto found = oldest_.find(key);
    return found == oldest_.end() ? nullptr : found->item;
  }

  void push(Item& item) {
    const auto [found, first] = oldest_.insert(Oldest{&item});
    auto& link = Traits::link_of(item);
    if (first) {
      link = {&item, &item};
      return;
    }
    Item* const oldest = found->item;
    Item* const newest = Traits::link_of(*oldest).older;
    link = {newest, oldest};
    Traits::link_of(*newest).newer = &item;
    Traits::link_of(*oldest).older = &item;
  }

  void erase(Item& item) {
    const auto found = oldest_.find(Traits::key_of(item));
    const auto link = Traits::link_of(item);
    if (link.newer == &item) {
      oldest_.erase(found);
      give_back();
    } else {
      Traits::link_of(*link.older).newer = link.newer;
      Traits::link_of(*link.newer).older = link.older;
      if (found->item == &item) found->item = link.newer;
    }
  }

  /// Number of keys that have a queue.
  [[nodiscard]] std::size_t size() const noexcept { return oldest_.size(); }

 private:
  struct Oldest {
    mutable Item* item;  // another of the same key takes its place
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(const Key& key) const { return absl::HashOf(key); }
    std::size_t operator()(const Oldest& oldest) const {
      return absl::HashOf(Traits::key_of(*oldest.item));
    }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const Oldest& a, const Key& b) const { return Traits::key_of(*a.item) == b; }
    bool operator()(const Oldest& a, const Oldest& b) const {
      return Traits::key_of(*a.item) == Traits::key_of(*b.item);
    }
  };
  using Allocator = CountingAllocator<Oldest>;
  using Table = absl::flat_hash_set<Oldest, Hash, Equal, Allocator>;

  /// A table that has emptied becomes smaller: Abseil's would keep what it once needed.
  void give_back() {
    constexpr std::size_t kSmall = 32;
    if (oldest_.empty()) {
      Table(oldest_.get_allocator()).swap(oldest_);
    } else if (oldest_.capacity() > kSmall && oldest_.size() < oldest_.capacity() / 8) {
      oldest_.rehash(0);
    }
  }

  Table oldest_;
};

}  // namespace kvroute::detail
