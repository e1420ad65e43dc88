#include "index/waiting_room.h"

#include <iterator>

namespace kvroute::detail {

WaitingRoom::WaitingRoom(std::size_t most, std::size_t* bytes)
    : most_(most),
      bytes_(bytes),
      chains_(CountingAllocator<Chain>(bytes)),
      by_name_(bytes),
      by_parent_(bytes),
      by_lane_(bytes) {}

std::size_t WaitingRoom::add(Slot slot, Tier tier, std::uint64_t parent,
                             std::uint64_t namespace_seed, std::span<const std::uint64_t> names,
                             std::span<const std::uint64_t> labels) {
  if (names.size() > most_) return names.size();
  if (names.empty()) return 0;
  const std::size_t gone = make_room(names.size());
  Chain& chain = chains_.emplace_back(bytes_);
  chain.slot = slot;
  chain.tier = tier;
  chain.parent = parent;
  chain.namespace_seed = namespace_seed;
  chain.blocks.resize(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    Block& block = chain.blocks[i];
    block.name = names[i];
    block.label = labels[i];
    block.chain = &chain;
    by_name_.push(block);
  }
  enter(chain);
  return gone;
}

std::size_t WaitingRoom::add(const WaitingChain& waiting) {
  std::size_t gone = add(waiting.slot, waiting.tier, waiting.parent, waiting.namespace_seed,
                         waiting.names, waiting.labels);
  const bool waits = !waiting.names.empty() && waiting.names.size() <= most_;
  for (std::size_t i = 0; i < waiting.gone.size(); ++i) {
    if (waiting.gone[i] == 0) continue;
    if (waits) {
      forget(chains_.back().blocks[i]);
    } else {
      --gone;
    }
  }
  if (waits && chains_.back().live == 0) drop(chains_.back());
  return gone;
}

std::size_t WaitingRoom::make_room(std::size_t size) {
  std::size_t gone = 0;
  while (size_ + size > most_) gone += drop_oldest();
  return gone;
}

void WaitingRoom::enter(Chain& chain) {
  chain.place = std::prev(chains_.end());
  chain.live = chain.blocks.size();
  by_parent_.push(chain);
  by_lane_.push(chain);
  waits_[chain.slot] |= bit_of(chain.tier);
  size_ += chain.live;
  live_ += chain.live;
}

void WaitingRoom::forget(Block& block) {
  by_name_.erase(block);
  block.same_name = {};
  --block.chain->live;
  --live_;
}

std::size_t WaitingRoom::drop(Chain& chain) {
  const std::size_t waited = chain.live;
  for (Block& block : chain.blocks) {
    if (!block.gone()) by_name_.erase(block);
  }
  by_parent_.erase(chain);
  by_lane_.erase(chain);
  if (by_lane_.front(ByLane::key_of(chain)) == nullptr) {
    waits_[chain.slot] &= static_cast<std::uint8_t>(~bit_of(chain.tier));
  }
  size_ -= chain.blocks.size();
  live_ -= waited;
  chains_.erase(chain.place);
  return waited;
}

std::optional<WaitingChain> WaitingRoom::take(Slot slot, std::uint64_t parent) {
  Chain* const chain = by_parent_.front({parent, slot});
  if (chain == nullptr) return std::nullopt;
  std::optional<WaitingChain> taken(std::in_place);
  copy(*chain, *taken);
  drop(*chain);
  return taken;
}

std::size_t WaitingRoom::remove(Slot slot, Tier tier, std::uint64_t name, bool all) {
  std::size_t removed = 0;
  do {
    Block* const block = by_name_.front({name, slot, tier});
    if (block == nullptr) break;
    forget(*block);
    if (block->chain->live == 0) drop(*block->chain);
    ++removed;
  } while (all);
  return removed;
}

std::size_t WaitingRoom::clear(Slot slot) {
  std::size_t gone = 0;
  for (std::size_t tier = 0; tier < kTiers; ++tier) gone += clear(slot, static_cast<Tier>(tier));
  return gone;
}

std::size_t WaitingRoom::clear(Slot slot, Tier tier) {
  std::size_t gone = 0;
  while (Chain* const chain = by_lane_.front({slot, tier})) gone += drop(*chain);
  return gone;
}

std::size_t WaitingRoom::drop_oldest() { return chains_.empty() ? 0 : drop(chains_.front()); }

void WaitingRoom::copy(const Chain& from, WaitingChain& to) {
  to.slot = from.slot;
  to.tier = from.tier;
  to.parent = from.parent;
  to.namespace_seed = from.namespace_seed;
  const std::size_t size = from.blocks.size();
  to.names.resize(size);
  to.labels.resize(size);
  to.gone.resize(size);
  for (std::size_t i = 0; i < size; ++i) {
    const Block& block = from.blocks[i];
    to.names[i] = block.name;
    to.labels[i] = block.label;
    to.gone[i] = block.gone() ? 1 : 0;
  }
}

void WaitingRoom::for_each(const std::function<void(const WaitingChain&)>& visit) const {
  WaitingChain shown;
  for (const Chain& chain : chains_) {
    copy(chain, shown);
    visit(shown);
  }
}

std::optional<std::string> WaitingRoom::audit() const {
  std::size_t size = 0;
  std::size_t live = 0;
  Waits waits{};
  std::size_t lanes = 0;
  for (const Chain& chain : chains_) {
    if (&*chain.place != &chain) return "a waiting chain's place";
    if (chain.live == 0) return "a waiting chain of which nothing is left";
    std::size_t here = 0;
    for (const Block& block : chain.blocks) {
      if (block.chain != &chain) return "a waiting block's chain";
      if (block.gone()) continue;
      ++here;
      if (block.same_name.newer->same_name.older != &block) return "a waiting block's queue";
      if (by_name_.front(ByName::key_of(block)) == nullptr) return "a waiting block without queue";
    }
    if (here != chain.live) return "a waiting chain's count of blocks";
    if (chain.same_parent.newer->same_parent.older != &chain) return "a queue below one parent";
    if (by_parent_.front(ByParent::key_of(chain)) == nullptr) return "a parent without queue";
    if (chain.same_lane.newer->same_lane.older != &chain) return "a lane's queue of chains";
    size += chain.blocks.size();
    live += here;
    if ((waits[chain.slot] & bit_of(chain.tier)) == 0) ++lanes;
    waits[chain.slot] |= bit_of(chain.tier);
  }
  if (size != size_ || live != live_) return "the number of waiting blocks";
  if (size_ > most_) return "more waiting blocks than allowed";
  if (waits != waits_ || lanes != by_lane_.size()) return "which slots wait";
  return std::nullopt;
}

}  // namespace kvroute::detail
