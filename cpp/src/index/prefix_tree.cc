#include "kvroute/index/prefix_tree.h"

#include "index/tree_core.h"

namespace kvroute {

PrefixTree::PrefixTree(const IndexOptions& options)
    : core_(std::make_unique<detail::TreeCore>(options)) {}
PrefixTree::~PrefixTree() = default;
PrefixTree::PrefixTree(PrefixTree&&) noexcept = default;
PrefixTree& PrefixTree::operator=(PrefixTree&&) noexcept = default;

StoreResult PrefixTree::store(Slot slot, std::optional<std::uint64_t> parent_engine_hash,
                              std::span<const std::uint64_t> engine_hashes,
                              std::span<const std::uint64_t> local_hashes,
                              std::uint64_t namespace_seed, Tier tier) {
  return core_->store({slot, tier}, parent_engine_hash, engine_hashes, local_hashes,
                      namespace_seed);
}

StoreResult PrefixTree::store_known(Slot slot, std::span<const std::uint64_t> engine_hashes,
                                    Tier tier) {
  return core_->store_known({slot, tier}, engine_hashes);
}

RemoveResult PrefixTree::remove(Slot slot, std::span<const std::uint64_t> engine_hashes,
                                Tier tier) {
  return core_->remove({slot, tier}, engine_hashes);
}

void PrefixTree::clear(Slot slot) { core_->clear(slot, false); }
void PrefixTree::clear(Slot slot, Tier tier) { core_->clear(slot, tier); }
void PrefixTree::release_slot(Slot slot) { core_->clear(slot, true); }

std::uint32_t PrefixTree::predict(Slot slot, std::span<const std::uint64_t> local_hashes,
                                  Nanoseconds now) {
  return core_->predict(slot, local_hashes, now);
}
void PrefixTree::set_capacity(Slot slot, std::optional<std::uint32_t> blocks) {
  core_->set_capacity(slot, blocks);
}
std::size_t PrefixTree::expire(Nanoseconds now) { return core_->expire(now); }

PinResult PrefixTree::pin(Slot slot, std::span<const std::uint64_t> local_hashes) {
  return core_->pin(slot, local_hashes);
}
std::uint32_t PrefixTree::unpin(Slot slot, Pin pin) { return core_->unpin(slot, pin); }

void PrefixTree::match(std::span<const std::uint64_t> local_hashes, Overlaps& out,
                       Tier deepest) const {
  core_->match(local_hashes, out, deepest);
}

std::optional<std::uint64_t> PrefixTree::namespace_seed_of(Slot slot,
                                                           std::uint64_t engine_hash) const {
  return core_->namespace_seed_of(slot, engine_hash);
}
std::size_t PrefixTree::held_blocks(Slot slot) const { return core_->held_blocks(slot); }
void PrefixTree::held_blocks(std::vector<std::size_t>& by_slot) const {
  core_->held_blocks(by_slot);
}
void PrefixTree::set_memory_limit(std::optional<std::size_t> limit) {
  core_->set_memory_limit(limit);
}
void PrefixTree::for_each_held(const std::function<void(const HeldChain&)>& visit) const {
  core_->for_each_held(visit);
}
std::string PrefixTree::snapshot(Nanoseconds now) const { return core_->snapshot(now); }
void PrefixTree::restore(std::string_view snapshot, Nanoseconds now) {
  core_->restore(snapshot, now);
}
IndexStats PrefixTree::stats() const { return core_->stats(); }
std::optional<std::string> PrefixTree::audit() const { return core_->audit(); }

}  // namespace kvroute
