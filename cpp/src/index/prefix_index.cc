#include "kvroute/index/prefix_index.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <string>

#include "kvroute/base/error.h"

namespace kvroute {

std::optional<Slot> PrefixIndex::find(const TargetId& target) const {
  const auto found = slots_.find(target);
  if (found == slots_.end()) return std::nullopt;
  return found->second;
}

std::vector<Slot> PrefixIndex::slots_of(const WorkerName& worker,
                                        std::optional<std::uint32_t> dp_rank) const {
  std::vector<Slot> slots;
  for (const auto& [target, slot] : slots_) {
    if (target.worker == worker && (!dp_rank || target.dp_rank == *dp_rank)) slots.push_back(slot);
  }
  return slots;
}

Slot PrefixIndex::take_slot(const TargetId& target) {
  const std::unique_lock lock(mutex_);
  if (const auto known = find(target)) return *known;
  Slot slot = 0;
  if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else if (targets_.size() < kMaxTargets) {
    slot = static_cast<Slot>(targets_.size());
    targets_.emplace_back();
  } else {
    throw InvalidArgument("worker: expected at most " + std::to_string(kMaxTargets) +
                          " targets, got one more: " + to_string(target));
  }
  targets_[slot] = target;
  slots_.emplace(target, slot);
  return slot;
}

StoreResult PrefixIndex::store(const TargetId& target, std::optional<std::uint64_t> parent,
                               std::span<const std::uint64_t> engine_hashes,
                               std::span<const std::uint64_t> local_hashes) {
  if (engine_hashes.size() != local_hashes.size()) {
    throw InvalidArgument("local_hashes: expected as many as engine_hashes (" +
                          std::to_string(engine_hashes.size()) + "), got " +
                          std::to_string(local_hashes.size()));
  }
  while (true) {
    {
      const std::shared_lock lock(mutex_);
      if (const auto slot = find(target)) {
        return tree_.store(*slot, parent, engine_hashes, local_hashes);
      }
    }
    (void)take_slot(target);  // it may be gone again before it is looked up: hence the loop
  }
}

RemoveResult PrefixIndex::remove(const TargetId& target,
                                 std::span<const std::uint64_t> engine_hashes) {
  const std::shared_lock lock(mutex_);
  if (const auto slot = find(target)) return tree_.remove(*slot, engine_hashes);
  return {.removed = 0, .kept = 0, .unknown = static_cast<std::uint32_t>(engine_hashes.size())};
}

void PrefixIndex::clear(const WorkerName& worker, std::optional<std::uint32_t> dp_rank) {
  const std::shared_lock lock(mutex_);
  for (const Slot slot : slots_of(worker, dp_rank)) tree_.clear(slot);
}

// The sweep takes time in proportion to what the worker held, so it is done without the names'
// lock; a slot that is not free yet serves nobody meanwhile.
void PrefixIndex::remove_worker(const WorkerName& worker) {
  std::vector<Slot> slots;
  {
    const std::unique_lock lock(mutex_);
    slots = slots_of(worker, std::nullopt);
    if (slots.empty()) {
      throw UnknownWorker("worker: expected one that has stored blocks, got " + to_string(worker));
    }
    for (const Slot slot : slots) slots_.erase(targets_[slot]);
  }
  for (const Slot slot : slots) tree_.release_slot(slot);
  const std::unique_lock lock(mutex_);
  for (const Slot slot : slots) targets_[slot] = {};
  free_.insert(free_.end(), slots.begin(), slots.end());
  std::sort(free_.begin(), free_.end(), std::greater<>());
}

std::vector<std::pair<TargetId, std::uint32_t>> PrefixIndex::match(
    std::span<const std::uint64_t> local_hashes) const {
  static thread_local Overlaps overlaps;
  std::vector<std::pair<TargetId, std::uint32_t>> depths;
  const std::shared_lock lock(mutex_);
  tree_.match(local_hashes, overlaps);
  for (std::size_t slot = 0; slot < overlaps.held.size(); ++slot) {
    if (overlaps.held[slot] == 0) continue;
    const auto listed = slots_.find(targets_[slot]);  // not so while its worker is being removed
    if (listed != slots_.end() && listed->second == slot) {
      depths.emplace_back(targets_[slot], overlaps.held[slot]);
    }
  }
  return depths;
}

std::vector<TargetId> PrefixIndex::targets() const {
  const std::shared_lock lock(mutex_);
  std::vector<Slot> slots;
  slots.reserve(slots_.size());
  for (const auto& [target, slot] : slots_) slots.push_back(slot);
  std::sort(slots.begin(), slots.end());
  std::vector<TargetId> targets;
  targets.reserve(slots.size());
  for (const Slot slot : slots) targets.push_back(targets_[slot]);
  return targets;
}

}  // namespace kvroute
