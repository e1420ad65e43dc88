#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "kvroute/index/prefix_tree.h"
#include "reference_places.h"
#include "reference_slot.h"
#include "reference_waiting.h"

namespace kvroute::testing {

/// What a prefix tree means, written to be obviously right: places are interned one by one; each
/// slot has a map from name to place and copies, a map of predicted places and one of pins; what
/// waits is a list.
class ReferenceModel {
 public:
  static constexpr Place kRoot = ReferencePlaces::kRoot;

  /// kUpperBound: predictions last until their time, stored or not, and nothing makes room for
  /// anything: what a tree that forgets may hold at most.
  enum class Kind : std::uint8_t { kExact, kUpperBound };

  explicit ReferenceModel(const IndexOptions& options, Kind kind = Kind::kExact)
      : ttl_(seconds_to_ns(options.predicted_ttl_seconds)),
        count_copies_(options.count_copies),
        upper_bound_(kind == Kind::kUpperBound),
        waiting_(upper_bound_ ? ~std::size_t{0} : options.max_waiting) {}

  StoreResult store(Slot slot, std::optional<std::uint64_t> parent,
                    std::span<const std::uint64_t> names, std::span<const std::uint64_t> labels,
                    std::uint64_t namespace_seed, Tier tier = Tier::device) {
    StoreResult result;
    ReferenceSlot& state = slots_[slot];
    Place place = kRoot;
    if (parent) {
      const auto known = state.find(*parent);
      if (!known) {
        result.unknown_parent = true;
        const auto added = waiting_.add({slot,
                                         tier,
                                         *parent,
                                         namespace_seed,
                                         {names.begin(), names.end()},
                                         {labels.begin(), labels.end()},
                                         {}});
        result.waiting = added.waits ? static_cast<std::uint32_t>(names.size()) : 0;
        counters_.unknown_parents += names.size();
        counters_.waited_in_vain += added.in_vain;
        return result;
      }
      place = *known;
    }
    attach(state, place, names, labels, namespace_seed, tier, result);
    adopt(slot, state, {names.begin(), names.end()}, result);
    return result;
  }

  StoreResult store_known(Slot slot, std::span<const std::uint64_t> names, Tier tier) {
    StoreResult result;
    ReferenceSlot& state = slots_[slot];
    fresh_.clear();
    for (const std::uint64_t name : names) {
      if (const auto known = state.find(name)) {
        store_block(state, name, *known, tier, result);
      } else {
        ++result.unknown;
      }
    }
    count(result);
    return result;
  }

  RemoveResult remove(Slot slot, std::span<const std::uint64_t> names, Tier tier = Tier::device) {
    RemoveResult result;
    ReferenceSlot& state = slots_[slot];
    for (const std::uint64_t name : names) {
      const bool held = remove_held(state, name, tier, result);
      if (held && count_copies_) continue;
      const std::uint32_t waited = waiting_.remove(slot, tier, name, !count_copies_);
      result.waiting += waited;
      result.unknown += !held && waited == 0 ? 1U : 0U;
    }
    counters_.unknown_removed += result.unknown;
    return result;
  }

  void clear(Slot slot) {
    ReferenceSlot& state = slots_[slot];
    state.tiers = {};
    state.predicted.clear();
    waiting_.clear(slot);
  }
  void clear(Slot slot, Tier tier) {
    ReferenceSlot& state = slots_[slot];
    state.in(tier) = {};
    if (tier == Tier::device) state.predicted.clear();
    waiting_.clear(slot, tier);
  }
  void release(Slot slot) {
    clear(slot);
    slots_[slot].capacity.reset();
  }

  std::uint32_t predict(Slot slot, std::span<const std::uint64_t> labels, Nanoseconds now) {
    ReferenceSlot& state = slots_[slot];
    const std::uint64_t instant = ++instants_;
    std::uint32_t added = 0;
    Place place = kRoot;
    for (const std::uint64_t label : labels) {
      place = places_.child_of(place, label);
      if (state.exact(place, Tier::device) && !upper_bound_) continue;
      added += state.predicted.contains(place) ? 0U : 1U;
      auto deadline = state.capacity ? std::nullopt : std::optional(now + ttl_);
      state.predicted[place] = {deadline, instant};
    }
    counters_.predicted += added;
    if (!upper_bound_) counters_.outlived += state.enforce_capacity(places_);
    return added;
  }

  void set_capacity(Slot slot, std::optional<std::uint32_t> blocks) {
    slots_[slot].capacity = blocks;
  }
  [[nodiscard]] std::optional<std::uint32_t> capacity(Slot slot) const {
    const auto state = slots_.find(slot);
    return state == slots_.end() ? std::nullopt : state->second.capacity;
  }

  std::size_t expire(Nanoseconds now) {
    std::size_t gone = 0;
    for (auto& [slot, state] : slots_) {
      gone += std::erase_if(state.predicted, [now](const auto& entry) {
        return entry.second.deadline && *entry.second.deadline <= now;
      });
    }
    counters_.expired += gone;
    return gone;
  }
  /// Every deadline moves by `time`, as when a snapshot is loaded later than it was taken.
  void postpone(Nanoseconds time) {
    for (auto& [slot, state] : slots_) {
      for (auto& [place, prediction] : state.predicted) {
        if (prediction.deadline) *prediction.deadline += time;
      }
    }
  }

  /// \return the place, and how many blocks became active.
  std::pair<Place, std::uint32_t> pin(Slot slot, std::span<const std::uint64_t> labels) {
    ReferenceSlot& state = slots_[slot];
    std::uint32_t newly = 0;
    Place place = kRoot;
    for (const std::uint64_t label : labels) {
      place = places_.child_of(place, label);
      newly += state.active[place]++ == 0 ? 1U : 0U;
    }
    state.pins += labels.empty() ? 0U : 1U;
    return {place, newly};
  }

  std::uint32_t unpin(Slot slot, Place place) {
    ReferenceSlot& state = slots_[slot];
    std::uint32_t stopped = 0;
    state.pins -= place == kRoot ? 0U : 1U;
    for (; place != kRoot; place = places_.parent(place)) {
      if (--state.active.at(place) > 0) continue;
      state.active.erase(place);
      ++stopped;
    }
    return stopped;
  }

  /// The places of a request's blocks, as far as anybody has spoken of them.
  [[nodiscard]] std::vector<Place> path(std::span<const std::uint64_t> labels) const {
    std::vector<Place> path;
    for (const std::uint64_t label : labels) {
      const auto child = places_.find_child(path.empty() ? kRoot : path.back(), label);
      if (!child) break;
      path.push_back(*child);
    }
    return path;
  }
  /// Leading blocks in some tier up to `tier`.
  [[nodiscard]] std::uint32_t held_depth(Slot slot, const std::vector<Place>& path,
                                         Tier tier) const {
    return depth(slot, path, [tier](const ReferenceSlot& s, Place p) { return s.holds(p, tier); });
  }
  [[nodiscard]] std::uint32_t active_depth(Slot slot, const std::vector<Place>& path) const {
    return depth(slot, path, [](const ReferenceSlot& s, Place p) { return s.active.contains(p); });
  }

  [[nodiscard]] std::optional<std::uint64_t> namespace_seed_of(Slot slot,
                                                               std::uint64_t name) const {
    const auto state = slots_.find(slot);
    if (state == slots_.end()) return std::nullopt;
    const auto place = state->second.find(name);
    if (!place) return std::nullopt;
    return places_.namespace_seed(*place);
  }
  [[nodiscard]] const ReferencePlaces& places() const { return places_; }
  [[nodiscard]] const std::map<Slot, ReferenceSlot>& slots() const { return slots_; }

  [[nodiscard]] std::size_t held_blocks(Slot slot) const {
    const auto state = slots_.find(slot);
    return state == slots_.end()
               ? 0
               : state->second.in(Tier::device).places.size() + state->second.predicted.size();
  }

  [[nodiscard]] std::size_t pins() const {
    std::size_t pins = 0;
    for (const auto& [slot, state] : slots_) pins += state.pins;
    return pins;
  }
  /// Whether anything is held below the device.
  [[nodiscard]] bool holds_lower() const {
    return std::ranges::any_of(slots_, [](const auto& entry) {
      return std::ranges::any_of(std::span(entry.second.tiers).subspan(1),
                                 [](const auto& tier) { return !tier.places.empty(); });
    });
  }

  /// Sizes as IndexStats has them, and the counters that the contract defines exactly; bytes,
  /// nodes and the others are 0.
  [[nodiscard]] IndexStats stats() const {
    IndexStats stats = counters_;
    for (const auto& [slot, state] : slots_) {
      for (const auto& tier : state.tiers) {
        const bool device = &tier == state.tiers.data();
        (device ? stats.held_exact : stats.held_lower) += tier.places.size();
      }
      stats.held_predicted += state.predicted.size();
    }
    stats.pins = pins();
    stats.blocks = live_blocks();
    stats.waiting = waiting_.blocks();
    return stats;
  }

 private:
  /// Blocks that a tree must keep: held or pinned by someone, or before such a block.
  [[nodiscard]] std::size_t live_blocks() const {
    std::vector<bool> live(places_.end());
    std::size_t count = 0;
    const auto keep = [&](Place place) {
      for (; place != kRoot && !live[place]; place = places_.parent(place)) {
        live[place] = true;
        ++count;
      }
    };
    for (const auto& [slot, state] : slots_) {
      for (const auto& tier : state.tiers) {
        for (const auto& entry : tier.places) keep(entry.first);
      }
      for (const auto& entry : state.predicted) keep(entry.first);
      for (const auto& entry : state.active) keep(entry.first);
    }
    return count;
  }

  void attach(ReferenceSlot& state, Place place, std::span<const std::uint64_t> names,
              std::span<const std::uint64_t> labels, std::uint64_t namespace_seed, Tier tier,
              StoreResult& result) {
    fresh_.clear();
    for (std::size_t i = 0; i < labels.size(); ++i) {
      place = places_.child_of(place, labels[i]);
      places_.set_namespace_seed(place, namespace_seed);
      store_block(state, names[i], place, tier, result);
    }
    count(result);
  }

  void store_block(ReferenceSlot& state, std::uint64_t name, Place place, Tier tier,
                   StoreResult& result) {
    ReferenceSlot::Held& held = state.in(tier);
    if (const auto known = held.names.find(name); known != held.names.end()) {
      if (known->second.place == place) {
        ++result.duplicates;
        known->second.copies += count_copies_ ? 1 : 0;
        return;
      }
      ++result.renamed;
      const Place before = known->second.place;
      if (const auto fresh = fresh_.find(before);
          state.drop_name(tier, name) && fresh != fresh_.end()) {
        --result.applied;
        result.confirmed -= fresh->second;
        fresh_.erase(fresh);
      }
    }
    held.names[name] = {place, 1};
    if (held.places[place]++ > 0) {
      ++result.aliased;
      return;
    }
    ++result.applied;
    std::uint32_t confirmed = 0;
    if (tier == Tier::device && !upper_bound_) {
      confirmed = static_cast<std::uint32_t>(state.predicted.erase(place));
    }
    result.confirmed += confirmed;
    fresh_[place] = confirmed;
  }

  /// What waits for these names, and for those that are stored because of it, is stored.
  void adopt(Slot slot, ReferenceSlot& state, std::deque<std::uint64_t> names,
             StoreResult& result) {
    for (; !names.empty(); names.pop_front()) {
      const std::uint64_t parent = names.front();
      // A block that is gone again by now, removed while it waited, adopts nothing.
      while (const auto place = state.find(parent)) {
        const auto chain = waiting_.take(slot, parent);
        if (!chain) break;
        if (chain->namespace_seed != places_.namespace_seed(*place)) {
          counters_.waited_in_vain += chain->alive();
          continue;
        }
        // Removed while it waited, and not announced again since then (a copy would be one more).
        std::vector<std::uint64_t> gone;
        for (std::size_t i = 0; i < chain->names.size(); ++i) {
          const bool held = state.in(chain->tier).names.contains(chain->names[i]);
          if (chain->gone[i] && (count_copies_ || !held)) gone.push_back(chain->names[i]);
        }
        StoreResult stored;
        attach(state, *place, chain->names, chain->labels, chain->namespace_seed, chain->tier,
               stored);
        RemoveResult removed;
        for (const std::uint64_t name : gone) remove_held(state, name, chain->tier, removed);
        names.insert(names.end(), chain->names.begin(), chain->names.end());
        result.adopted += static_cast<std::uint32_t>(chain->alive());
      }
    }
    counters_.adopted += result.adopted;
  }

  /// \return whether the slot held the name in the tier.
  static bool remove_held(ReferenceSlot& state, std::uint64_t name, Tier tier,
                          RemoveResult& result) {
    const auto known = state.in(tier).names.find(name);
    if (known == state.in(tier).names.end()) return false;
    if (known->second.copies > 1) {
      --known->second.copies;
      ++result.kept;
    } else {
      state.drop_name(tier, name) ? ++result.removed : ++result.kept;
    }
    return true;
  }

  void count(const StoreResult& result) {
    counters_.stored += result.applied;
    counters_.duplicates += result.duplicates;
    counters_.confirmed += result.confirmed;
    counters_.renamed += result.renamed;
  }

  template <typename Holds>
  [[nodiscard]] std::uint32_t depth(Slot slot, const std::vector<Place>& path, Holds holds) const {
    const auto state = slots_.find(slot);
    if (state == slots_.end()) return 0;
    const auto end = std::ranges::find_if(path, [&](Place p) { return !holds(state->second, p); });
    return static_cast<std::uint32_t>(end - path.begin());
  }

  Nanoseconds ttl_;
  bool count_copies_;
  bool upper_bound_;
  ReferencePlaces places_;
  ReferenceWaiting waiting_;
  std::map<Slot, ReferenceSlot> slots_;
  std::map<Place, std::uint32_t>
      fresh_;  // of the chain at work: newly exact; 1 if predicted before
  std::uint64_t instants_ = 0;
  IndexStats counters_;
};

}  // namespace kvroute::testing
