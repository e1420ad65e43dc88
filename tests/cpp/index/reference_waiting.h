#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/base/tier.h"

namespace kvroute::testing {

/// The chains whose parent is not known yet, as one list in the order in which they came.
class ReferenceWaiting {
 public:
  struct Chain {
    Slot slot = 0;
    Tier tier = Tier::device;
    std::uint64_t parent = 0;
    std::uint64_t namespace_seed = 0;
    std::vector<std::uint64_t> names;
    std::vector<std::uint64_t> labels;
    std::vector<bool> gone;  // removed while it waited

    [[nodiscard]] std::size_t alive() const {
      return static_cast<std::size_t>(std::ranges::count(gone, false));
    }
  };

  explicit ReferenceWaiting(std::size_t most) : most_(most) {}

  struct Added {
    bool waits = false;
    std::size_t in_vain = 0;  // blocks that do not wait, or no longer
  };
  Added add(Chain chain) {
    Added result;
    const std::size_t length = chain.names.size();
    if (length == 0) return result;
    if (length > most_) return {false, length};
    chain.gone.assign(length, false);
    chains_.push_back(std::move(chain));
    while (length_of_all() > most_) {
      result.in_vain += chains_.front().alive();
      chains_.pop_front();
    }
    result.waits = true;
    return result;
  }

  /// Takes out the slot's oldest chain that waits for `parent`.
  std::optional<Chain> take(Slot slot, std::uint64_t parent) {
    const auto found = std::ranges::find_if(
        chains_, [&](const Chain& chain) { return chain.slot == slot && chain.parent == parent; });
    if (found == chains_.end()) return std::nullopt;
    Chain chain = std::move(*found);
    chains_.erase(found);
    return chain;
  }

  /// The oldest waiting block of this slot, tier and name is gone; with `all`, every one.
  std::uint32_t remove(Slot slot, Tier tier, std::uint64_t name, bool all) {
    std::uint32_t removed = 0;
    for (Chain& chain : chains_) {
      if (chain.slot != slot || chain.tier != tier) continue;
      for (std::size_t i = 0; i < chain.names.size(); ++i) {
        if (chain.names[i] != name || chain.gone[i] || (removed > 0 && !all)) continue;
        chain.gone[i] = true;
        ++removed;
      }
    }
    chains_.remove_if([](const Chain& chain) { return chain.alive() == 0; });
    return removed;
  }

  void clear(Slot slot) {
    chains_.remove_if([&](const Chain& chain) { return chain.slot == slot; });
  }
  void clear(Slot slot, Tier tier) {
    chains_.remove_if([&](const Chain& chain) { return chain.slot == slot && chain.tier == tier; });
  }

  /// Blocks that wait now.
  [[nodiscard]] std::size_t blocks() const {
    std::size_t total = 0;
    for (const Chain& chain : chains_) total += chain.alive();
    return total;
  }

 private:
  [[nodiscard]] std::size_t length_of_all() const {
    std::size_t total = 0;
    for (const Chain& chain : chains_) total += chain.names.size();
    return total;
  }

  std::size_t most_;
  std::list<Chain> chains_;  // oldest first
};

}  // namespace kvroute::testing
