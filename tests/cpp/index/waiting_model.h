#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "index/waiting_room.h"

namespace kvroute::testing {

/// What a WaitingRoom is, as a plain list of chains, oldest first, that is searched from its
/// beginning.
class WaitingModel {
 public:
  using Chain = detail::WaitingChain;

  explicit WaitingModel(std::size_t most) : most_(most) {}

  std::size_t add(const Chain& chain) {
    if (chain.names.size() > most_) return live(chain);
    if (chain.names.empty()) return 0;
    std::size_t gone = 0;
    while (size() + chain.names.size() > most_) gone += drop_oldest();
    if (live(chain) > 0) chains_.push_back(chain);
    return gone;
  }

  [[nodiscard]] bool any(Slot slot) const {
    return std::any_of(chains_.begin(), chains_.end(),
                       [slot](const Chain& chain) { return chain.slot == slot; });
  }
  [[nodiscard]] std::size_t blocks() const {
    std::size_t sum = 0;
    for (const Chain& chain : chains_) sum += live(chain);
    return sum;
  }
  [[nodiscard]] const std::vector<Chain>& chains() const { return chains_; }

  std::optional<Chain> take(Slot slot, std::uint64_t parent) {
    for (auto chain = chains_.begin(); chain != chains_.end(); ++chain) {
      if (chain->slot != slot || chain->parent != parent) continue;
      std::optional<Chain> taken(std::move(*chain));
      chains_.erase(chain);
      return taken;
    }
    return std::nullopt;
  }

  std::size_t remove(Slot slot, Tier tier, std::uint64_t name, bool all) {
    std::size_t removed = 0;
    for (Chain& chain : chains_) {
      if (chain.slot != slot || chain.tier != tier) continue;
      for (std::size_t i = 0; i < chain.names.size(); ++i) {
        if (chain.names[i] != name || chain.gone[i] != 0) continue;
        if (removed == 1 && !all) break;
        chain.gone[i] = 1;
        ++removed;
      }
    }
    std::erase_if(chains_, [](const Chain& chain) { return live(chain) == 0; });
    return removed;
  }

  std::size_t clear(Slot slot) {
    const std::size_t before = blocks();
    std::erase_if(chains_, [slot](const Chain& chain) { return chain.slot == slot; });
    return before - blocks();
  }

  std::size_t clear(Slot slot, Tier tier) {
    const std::size_t before = blocks();
    std::erase_if(chains_, [slot, tier](const Chain& chain) {
      return chain.slot == slot && chain.tier == tier;
    });
    return before - blocks();
  }

  std::size_t drop_oldest() {
    if (chains_.empty()) return 0;
    const std::size_t gone = live(chains_.front());
    chains_.erase(chains_.begin());
    return gone;
  }

 private:
  static std::size_t live(const Chain& chain) {
    return chain.names.size() -
           static_cast<std::size_t>(std::count(chain.gone.begin(), chain.gone.end(), 1));
  }
  [[nodiscard]] std::size_t size() const {
    std::size_t sum = 0;
    for (const Chain& chain : chains_) sum += chain.names.size();
    return sum;
  }

  std::size_t most_;
  std::vector<Chain> chains_;
};

}  // namespace kvroute::testing
