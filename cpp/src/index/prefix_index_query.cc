#include <algorithm>
#include <mutex>
#include <shared_mutex>

#include "kvroute/index/prefix_index.h"

namespace kvroute {
namespace {

// Kept by each thread, so that matching allocates no more than its answer.
Overlaps& scratch() {
  static thread_local Overlaps overlaps;
  return overlaps;
}

}  // namespace

std::vector<std::pair<TargetId, std::uint32_t>> PrefixIndex::match(
    std::span<const std::uint64_t> local_hashes) const {
  Overlaps& overlaps = scratch();
  std::vector<std::pair<TargetId, std::uint32_t>> depths;
  const std::shared_lock lock(mutex_);
  tree_->match(local_hashes, overlaps);
  depths.reserve(overlaps.held.size() -
                 static_cast<std::size_t>(std::ranges::count(overlaps.held, 0U)));
  for (std::size_t slot = 0; slot < overlaps.held.size(); ++slot) {
    if (overlaps.held[slot] == 0) continue;
    const auto& target = places_[slot].target;  // none while its worker is being removed
    if (target) depths.emplace_back(*target, overlaps.held[slot]);
  }
  return depths;
}

TargetDepths PrefixIndex::overlaps(std::span<const std::uint64_t> local_hashes) const {
  Overlaps& overlaps = scratch();
  TargetDepths answer;
  const std::shared_lock lock(mutex_);
  tree_->match(local_hashes, overlaps);
  answer.targets.reserve(slots_.size());
  for (auto& depths : answer.depths) depths.reserve(slots_.size());
  for (std::size_t slot = 0; slot < places_.size(); ++slot) {
    if (!places_[slot].target) continue;
    answer.targets.push_back(*places_[slot].target);
    for (std::size_t tier = 0; tier < kTiers; ++tier) {
      answer.depths[tier].push_back(overlaps.depth(slot, static_cast<Tier>(tier)));
    }
  }
  return answer;
}

std::vector<std::vector<std::pair<TargetId, std::uint32_t>>> PrefixIndex::match_many(
    std::span<const std::span<const std::uint64_t>> requests) const {
  std::vector<std::vector<std::pair<TargetId, std::uint32_t>>> answers;
  answers.reserve(requests.size());
  for (const auto& request : requests) answers.push_back(match(request));
  return answers;
}

std::vector<TargetId> PrefixIndex::targets() const {
  const std::shared_lock lock(mutex_);
  std::vector<TargetId> targets;
  targets.reserve(slots_.size());
  for (const Place& place : places_) {
    if (place.target) targets.push_back(*place.target);
  }
  return targets;
}

std::vector<std::optional<TargetId>> PrefixIndex::names() const {
  const std::shared_lock lock(mutex_);
  std::vector<std::optional<TargetId>> names;
  names.reserve(places_.size());
  for (const Place& place : places_) names.push_back(place.target);
  return names;
}

// The visitor runs while writers of the tree wait, some of them with the names' lock: it looks at a
// copy of the names, which stays true as long as nobody else may change them.
void PrefixIndex::for_each_held(
    const std::function<void(const TargetId&, const HeldChain&)>& visit) const {
  const std::scoped_lock unchanging(membership_);
  const auto by_slot = names();
  tree_->for_each_held([&](const HeldChain& chain) {
    if (chain.slot < by_slot.size() && by_slot[chain.slot]) visit(*by_slot[chain.slot], chain);
  });
}

// It may wait for events, for which no change of names shall wait, nor matches behind that.
IndexStats PrefixIndex::stats() const {
  const auto tree = [this] {
    const std::shared_lock lock(mutex_);
    return tree_;
  }();
  return tree->stats();
}

std::optional<std::string> PrefixIndex::audit() const {
  const std::scoped_lock unchanging(membership_);
  std::size_t named = 0;
  std::vector<std::size_t> held;
  {
    const std::shared_lock lock(mutex_);
    for (Slot slot = 0; slot < places_.size(); ++slot) {
      const auto& target = places_[slot].target;
      if (!target) continue;
      ++named;
      if (find(*target) != slot) return to_string(*target) + ": listed under another slot";
    }
    if (named != slots_.size()) return "a name without a slot";
    tree_->held_blocks(held);
    for (Slot slot = 0; slot < held.size(); ++slot) {
      const Place place = slot < places_.size() ? places_[slot] : Place{};
      if (held[slot] > 0 && !place.target && place.sweeps == 0) {
        return "slot " + std::to_string(slot) + ": holds blocks for no target";
      }
    }
  }
  return tree_->audit();
}

}  // namespace kvroute
