#include "index/tree_core.h"

#include <mutex>
#include <shared_mutex>
#include <string>

#include "kvroute/base/error.h"

namespace kvroute::detail {
namespace {

constexpr std::size_t kSmallestLimit = std::size_t{1} << 20;

void check_limit(std::optional<std::size_t> limit) {
  if (limit && *limit < kSmallestLimit) {
    throw InvalidArgument("memory_limit: expected at least " + std::to_string(kSmallestLimit) +
                          " bytes, got " + std::to_string(*limit));
  }
}

const IndexOptions& checked(const IndexOptions& options) {
  if (!(options.predicted_ttl_seconds > 0) || options.predicted_ttl_seconds > 1e9) {
    throw InvalidArgument("predicted_ttl_seconds: expected a positive number of at most 1e9, got " +
                          std::to_string(options.predicted_ttl_seconds));
  }
  check_limit(options.memory_limit);
  return options;
}

void check(Slot slot) {
  if (slot >= kMaxTargets) {
    throw InvalidArgument("slot: expected a number below " + std::to_string(kMaxTargets) +
                          ", got " + std::to_string(slot));
  }
}

}  // namespace

TreeCore::TreeCore(const IndexOptions& options)
    : options_(checked(options)),
      predicted_ttl_(seconds_to_ns(options.predicted_ttl_seconds)),
      limit_(options.memory_limit) {}

void TreeCore::set_memory_limit(std::optional<std::size_t> limit) {
  constexpr std::size_t kLeavesAtOnce = 256;
  check_limit(limit);
  {
    const std::scoped_lock turn(writers_);
    limit_ = limit;
  }
  for (bool done = false; !done;) {
    const std::scoped_lock turn(writers_);
    done = enforce_limit(NodeTree::kRoot, kLeavesAtOnce);
  }
}

TreeCore::SlotState& TreeCore::state_of(Slot slot) {
  check(slot);
  if (slot >= slots_.size()) slots_.resize(slot + 1);
  if (slots_[slot] == nullptr) {
    slots_[slot] = std::make_unique<SlotState>(&bytes_.names);
    if (slot >= slot_count_) {
      const std::scoped_lock alone(tree_lock_);
      slot_count_ = slot + 1;
    }
  }
  return *slots_[slot];
}

const TreeCore::SlotState* TreeCore::find_state(Slot slot) const {
  check(slot);
  return slot < slots_.size() ? slots_[slot].get() : nullptr;
}

void TreeCore::find_path(NodeId from, std::uint32_t consumed, std::span<const std::uint64_t> labels,
                         Slot slot) {
  path_.clear();
  tree_.ensure_path(from, consumed, labels, slot, path_);
}

std::optional<std::uint64_t> TreeCore::namespace_seed_of(Slot slot, std::uint64_t name) const {
  const std::shared_lock turn(writers_);
  const SlotState* state = find_state(slot);
  const SlotNames::Entry* entry = state != nullptr ? state->names.find(name) : nullptr;
  if (entry == nullptr) return std::nullopt;
  return tree_.node(tree_.place_of(entry->block).node).namespace_seed;
}

std::size_t TreeCore::held_blocks(Slot slot) const {
  const std::shared_lock turn(writers_);
  const SlotState* state = find_state(slot);
  return state != nullptr ? state->held : 0;
}

void TreeCore::held_blocks(std::vector<std::size_t>& by_slot) const {
  const std::shared_lock turn(writers_);
  by_slot.assign(slots_.size(), 0);
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot] != nullptr) by_slot[slot] = slots_[slot]->held;
  }
}

IndexStats TreeCore::stats() const {
  const std::shared_lock turn(writers_);
  IndexStats stats = counters_;
  stats.bytes = bytes_;
  stats.nodes = tree_.size();
  stats.blocks = tree_.runs().blocks();
  for (const auto& state : slots_) {
    if (state == nullptr) continue;
    stats.held_predicted += state->predicted;
    stats.held_exact += state->held - state->predicted;
  }
  return stats;
}

}  // namespace kvroute::detail
