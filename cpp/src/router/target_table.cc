#include "router/target_table.h"

#include <algorithm>
#include <atomic>
#include <string_view>
#include <utility>

#include "kvroute/base/error.h"
#include "kvroute/hash/block_hash.h"

namespace kvroute::detail {
namespace {

void sort_once_each(std::vector<Slot>& slots) {
  std::ranges::sort(slots);
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
}

std::string_view label_of(const Worker& worker, const char* name) {
  const auto found = worker.labels.find(name);
  return found == worker.labels.end() ? std::string_view() : std::string_view(found->second);
}

// The number of a key, which is the next one if it is new; 0 is nobody's.
template <typename Key>
std::uint32_t number_of(std::map<Key, std::uint32_t>& numbers, const Key& key) {
  return numbers.emplace(key, static_cast<std::uint32_t>(numbers.size() + 1)).first->second;
}

std::uint64_t next_membership() {
  static std::atomic<std::uint64_t> memberships{0};
  return ++memberships;
}

}  // namespace

TargetTable::TargetTable()
    : places_(std::make_shared<const std::vector<Place>>()), membership_(next_membership()) {}

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
  marks_.add(worker.slots, worker.labels);
  workers_.emplace(name, Listing{std::move(worker), next_order_++});
  rebuild_listed();
}

Worker TargetTable::unlist(const WorkerName& name) {
  auto node = workers_.extract(name);
  marks_.remove(node.mapped().worker.slots);
  for (const Slot slot : node.mapped().worker.slots) identities_[slot] = 0;
  rebuild_listed();
  return std::move(node.mapped().worker);
}

void TargetTable::learn_total_blocks(Slot slot, std::uint64_t blocks) {
  total_blocks_[slot] = blocks;
  membership_ = next_membership();
}

void TargetTable::set_draining(const WorkerName& name, bool draining) {
  (void)at(name, "worker");
  Worker& worker = workers_.at(name).worker;
  marks_.set_draining(worker.slots, draining);
  worker.draining = draining;
}

void TargetTable::set_loras(const WorkerName& name, std::vector<std::string> loras) {
  (void)at(name, "worker");
  Worker& worker = workers_.at(name).worker;
  marks_.set_loras(worker.slots, loras);
  worker.loras = std::move(loras);
}

void TargetTable::rebuild_listed() {
  membership_ = next_membership();
  listed_.clear();
  for (const auto& [name, listing] : workers_) {
    const auto& slots = listing.worker.slots;
    listed_.insert(listed_.end(), slots.begin(), slots.end());
  }
  std::sort(listed_.begin(), listed_.end());
  std::vector<Slot> by_name = listed_;
  std::ranges::sort(by_name, {}, [this](Slot slot) -> const TargetId& { return targets_[slot]; });
  for (std::uint32_t turn = 0; turn < by_name.size(); ++turn) turns_[by_name[turn]] = turn;
  rebuild_places();
}

void TargetTable::rebuild_places() {
  auto places = std::make_shared<std::vector<Place>>(targets_.size());
  std::map<std::string_view, std::uint32_t> zones;
  std::map<std::pair<std::uint32_t, std::string_view>, std::uint32_t> hosts;
  for (const auto& [name, listing] : workers_) {
    const std::string_view zone = label_of(listing.worker, "zone");
    const std::string_view host = label_of(listing.worker, "host");
    if (zone.empty() && host.empty()) continue;
    Place place{.zone = number_of(zones, zone), .host = 0};
    if (!host.empty()) place.host = number_of(hosts, std::pair(place.zone, host));
    for (const Slot slot : listing.worker.slots) (*places)[slot] = place;
  }
  places_ = std::move(places);
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

void TargetTable::slots_of(std::span<const WorkerRef> allowed, std::vector<Slot>& slots,
                           const char* field) const {
  if (allowed.empty()) {
    throw InvalidArgument(std::string(field) + ": expected None or at least one worker, got none");
  }
  slots.clear();
  for (const auto& [name, rank] : allowed) {
    const auto& of_worker = at(name, field).slots;
    if (!rank) {
      slots.insert(slots.end(), of_worker.begin(), of_worker.end());
    } else if (*rank < of_worker.size()) {
      slots.push_back(of_worker[*rank]);
    } else {
      throw UnknownWorker(std::string(field) + ": expected a rank from 0 to " +
                          std::to_string(of_worker.size() - 1) + " of " + to_string(name) +
                          ", got " + std::to_string(*rank));
    }
  }
  sort_once_each(slots);
}

std::shared_ptr<const std::vector<Slot>> TargetTable::slots_of(const AllowedSet& allowed) const {
  const std::lock_guard lock(allowed.mutex_);
  if (allowed.membership_ == membership_) return allowed.slots_;
  std::vector<Slot> slots;
  for (const auto& [name, rank] : allowed.refs_) {
    const Worker* const worker = find(name);
    if (worker == nullptr) continue;
    if (!rank) {
      slots.insert(slots.end(), worker->slots.begin(), worker->slots.end());
    } else if (*rank < worker->slots.size()) {
      slots.push_back(worker->slots[*rank]);
    }
  }
  sort_once_each(slots);
  allowed.slots_ = std::make_shared<const std::vector<Slot>>(std::move(slots));
  allowed.membership_ = membership_;
  return allowed.slots_;
}

}  // namespace kvroute::detail
