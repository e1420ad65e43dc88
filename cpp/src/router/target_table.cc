#include "router/target_table.h"

#include <algorithm>
#include <utility>

#include "kvroute/base/error.h"
#include "kvroute/hash/block_hash.h"

namespace kvroute::detail {

std::vector<Slot> TargetTable::take_slots(const WorkerName& name, std::uint32_t ranks,
                                          std::uint32_t block_size) {
  const auto in_use = static_cast<std::size_t>(std::count(taken_.begin(), taken_.end(), true));
  if (in_use + ranks > kMaxTargets) {
    throw InvalidArgument("dp_ranks: expected at most " + std::to_string(kMaxTargets - in_use) +
                          " (a router has " + std::to_string(kMaxTargets) + " targets, " +
                          std::to_string(in_use) + " are in use), got " + std::to_string(ranks));
  }
  std::vector<Slot> slots;
  for (Slot slot = 0; slots.size() < ranks; ++slot) {
    if (slot == targets_.size()) {
      targets_.emplace_back();
      block_sizes_.push_back(1);
      total_blocks_.push_back(0);
      identities_.push_back(0);
      turns_.push_back(0);
      taken_.push_back(false);
    }
    if (taken_[slot]) continue;
    targets_[slot] = {name, static_cast<std::uint32_t>(slots.size())};
    block_sizes_[slot] = block_size;
    total_blocks_[slot] = 0;
    identities_[slot] = hash_identifier(to_string(targets_[slot]));
    taken_[slot] = true;
    slots.push_back(slot);
  }
  return slots;
}

void TargetTable::free_slots(std::span<const Slot> slots) {
  for (const Slot slot : slots) taken_[slot] = false;
}

void TargetTable::list(Worker worker) {
  const WorkerName name = worker.name;
  for (const Slot slot : worker.slots) total_blocks_[slot] = worker.total_blocks.value_or(0);
  workers_.emplace(name, Listing{std::move(worker), next_order_++});
  rebuild_listed();
}

Worker TargetTable::unlist(const WorkerName& name) {
  auto node = workers_.extract(name);
  rebuild_listed();
  return std::move(node.mapped().worker);
}

void TargetTable::rebuild_listed() {
  listed_.clear();
  for (const auto& [name, listing] : workers_) {
    const auto& slots = listing.worker.slots;
    listed_.insert(listed_.end(), slots.begin(), slots.end());
  }
  std::sort(listed_.begin(), listed_.end());
  std::vector<Slot> by_name = listed_;
  std::ranges::sort(by_name, {}, [this](Slot slot) -> const TargetId& { return targets_[slot]; });
  for (std::uint32_t turn = 0; turn < by_name.size(); ++turn) turns_[by_name[turn]] = turn;
}

const Worker* TargetTable::find(const WorkerName& name) const {
  const auto found = workers_.find(name);
  return found == workers_.end() ? nullptr : &found->second.worker;
}

const Worker& TargetTable::at(const WorkerName& name, const char* field) const {
  if (const Worker* worker = find(name)) return *worker;
  throw UnknownWorker(std::string(field) + ": expected the name of a worker that was added, got " +
                      to_string(name));
}

std::vector<const Worker*> TargetTable::workers() const {
  std::vector<const Listing*> listings;
  listings.reserve(workers_.size());
  for (const auto& [name, listing] : workers_) listings.push_back(&listing);
  std::sort(listings.begin(), listings.end(),
            [](const Listing* a, const Listing* b) { return a->order < b->order; });
  std::vector<const Worker*> workers;
  workers.reserve(listings.size());
  for (const Listing* listing : listings) workers.push_back(&listing->worker);
  return workers;
}

void TargetTable::slots_of(std::span<const WorkerRef> allowed, std::vector<Slot>& slots) const {
  if (allowed.empty()) {
    throw InvalidArgument("allowed: expected None or at least one worker, got none");
  }
  slots.clear();
  for (const auto& [name, rank] : allowed) {
    const auto& of_worker = at(name, "allowed").slots;
    if (!rank) {
      slots.insert(slots.end(), of_worker.begin(), of_worker.end());
    } else if (*rank < of_worker.size()) {
      slots.push_back(of_worker[*rank]);
    } else {
      throw UnknownWorker("allowed: expected a rank from 0 to " +
                          std::to_string(of_worker.size() - 1) + " of " + to_string(name) +
                          ", got " + std::to_string(*rank));
    }
  }
  std::sort(slots.begin(), slots.end());
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
}

}  // namespace kvroute::detail
