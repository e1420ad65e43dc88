#include "kvroute/index/prefix_index.h"

#include <mutex>
#include <shared_mutex>
#include <string>

#include "kvroute/base/error.h"

namespace kvroute {

PrefixIndex::PrefixIndex(const IndexOptions& options)
    : options_(options), tree_(std::make_shared<PrefixTree>(options)) {}

std::optional<Slot> PrefixIndex::find(const TargetId& target) const {
  const auto found = slots_.find(target);
  if (found == slots_.end()) return std::nullopt;
  return found->second;
}

/// The same by itself. What is found stays so as long as `in_use_` is shared.
std::optional<Slot> PrefixIndex::look_up(const TargetId& target) const {
  const std::shared_lock lock(mutex_);
  return find(target);
}

std::vector<Slot> PrefixIndex::slots_of(const WorkerName& worker,
                                        std::optional<std::uint32_t> dp_rank) const {
  std::vector<Slot> slots;
  for (Slot slot = 0; slot < places_.size(); ++slot) {
    const auto& target = places_[slot].target;
    if (target && target->worker == worker && (!dp_rank || target->dp_rank == *dp_rank)) {
      slots.push_back(slot);
    }
  }
  return slots;
}

void PrefixIndex::take_slot(const TargetId& target) {
  const std::scoped_lock changing(membership_);
  const std::unique_lock lock(mutex_);
  if (find(target)) return;
  Slot slot = 0;
  while (slot < places_.size() && (places_[slot].target || places_[slot].sweeps > 0)) ++slot;
  if (slot == kMaxTargets) {
    throw InvalidArgument("worker: expected at most " + std::to_string(kMaxTargets) +
                          " targets, got one more: " + to_string(target));
  }
  if (slot == places_.size()) places_.emplace_back();
  slots_.emplace(target, slot);
  places_[slot].target = target;
}

StoreResult PrefixIndex::store(const TargetId& target, std::optional<std::uint64_t> parent,
                               std::span<const std::uint64_t> engine_hashes,
                               std::span<const std::uint64_t> local_hashes, Tier tier) {
  if (engine_hashes.size() != local_hashes.size()) {
    throw InvalidArgument("local_hashes: expected as many as engine_hashes (" +
                          std::to_string(engine_hashes.size()) + "), got " +
                          std::to_string(local_hashes.size()));
  }
  while (true) {
    {
      const std::shared_lock using_it(in_use_);
      if (const auto slot = look_up(target)) {
        return tree_->store(*slot, parent, engine_hashes, local_hashes, 0, tier);
      }
    }
    take_slot(target);  // it may be gone again before it is looked up: hence the loop
  }
}

StoreResult PrefixIndex::store_known(const TargetId& target,
                                     std::span<const std::uint64_t> engine_hashes, Tier tier) {
  const std::shared_lock using_it(in_use_);
  if (const auto slot = look_up(target)) return tree_->store_known(*slot, engine_hashes, tier);
  StoreResult result;
  result.unknown = static_cast<std::uint32_t>(engine_hashes.size());
  return result;
}

RemoveResult PrefixIndex::remove(const TargetId& target,
                                 std::span<const std::uint64_t> engine_hashes, Tier tier) {
  const std::shared_lock using_it(in_use_);
  if (const auto slot = look_up(target)) return tree_->remove(*slot, engine_hashes, tier);
  RemoveResult result;
  result.unknown = static_cast<std::uint32_t>(engine_hashes.size());
  return result;
}

// A sweep takes time in proportion to what was held, so no lock is held meanwhile: that the slot is
// being swept keeps it from being given to another target, whose blocks would go too. Where the
// tree was replaced meanwhile, so were the places.
void PrefixIndex::sweep(const WorkerName& worker, std::optional<std::uint32_t> dp_rank,
                        bool forget) {
  std::vector<Slot> slots;
  std::shared_ptr<PrefixTree> tree;
  {
    const std::scoped_lock changing(membership_);
    const std::scoped_lock unused(in_use_);
    const std::scoped_lock lock(mutex_);
    slots = slots_of(worker, dp_rank);
    tree = tree_;
    for (const Slot slot : slots) {
      Place& place = places_[slot];
      ++place.sweeps;
      if (!forget) continue;
      slots_.erase(*place.target);
      place.target.reset();
    }
  }
  if (forget && slots.empty()) {
    throw UnknownWorker("worker: expected one that has stored blocks, got " + to_string(worker));
  }
  for (const Slot slot : slots) forget ? tree->release_slot(slot) : tree->clear(slot);
  const std::scoped_lock changing(membership_);
  const std::unique_lock lock(mutex_);
  if (tree != tree_) return;
  for (const Slot slot : slots) --places_[slot].sweeps;
}

void PrefixIndex::clear(const WorkerName& worker, std::optional<std::uint32_t> dp_rank) {
  sweep(worker, dp_rank, false);
}

void PrefixIndex::remove_worker(const WorkerName& worker) { sweep(worker, std::nullopt, true); }

}  // namespace kvroute
