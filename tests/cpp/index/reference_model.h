#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "kvroute/index/prefix_tree.h"

namespace kvroute::testing {

/// What a prefix tree means, written to be obviously right: places are interned one by one, and
/// for each slot there is a map from name to place, a map of predicted places, and a list of pins.
class ReferenceModel {
 public:
  using Place = std::size_t;  // 0 is the root
  static constexpr Place kRoot = 0;

  explicit ReferenceModel(const IndexOptions& options)
      : ttl_(seconds_to_ns(options.predicted_ttl_seconds)), count_copies_(options.count_copies) {}

  StoreResult store(Slot slot, std::optional<std::uint64_t> parent,
                    std::span<const std::uint64_t> names, std::span<const std::uint64_t> labels,
                    std::uint64_t namespace_seed) {
    fresh_.clear();
    StoreResult result;
    SlotState& state = slots_[slot];
    Place place = kRoot;
    if (parent) {
      const auto known = state.names.find(*parent);
      if (known == state.names.end()) {
        result.unknown_parent = true;
        return result;
      }
      place = known->second.place;
    }
    for (std::size_t i = 0; i < labels.size(); ++i) {
      place = child_of(place, labels[i]);
      namespaces_[place] = namespace_seed;
      store_block(state, names[i], place, result);
    }
    return result;
  }

  RemoveResult remove(Slot slot, std::span<const std::uint64_t> names) {
    RemoveResult result;
    SlotState& state = slots_[slot];
    for (const std::uint64_t name : names) {
      const auto known = state.names.find(name);
      if (known == state.names.end()) {
        ++result.unknown;
      } else if (--known->second.copies > 0) {
        ++result.kept;
      } else if (drop_name(state, known)) {
        ++result.removed;
      } else {
        ++result.kept;
      }
    }
    return result;
  }

  void clear(Slot slot) {
    SlotState& state = slots_[slot];
    state.names.clear();
    state.names_of.clear();
    state.predicted.clear();
  }

  std::uint32_t predict(Slot slot, std::span<const std::uint64_t> labels, Nanoseconds now) {
    SlotState& state = slots_[slot];
    std::uint32_t added = 0;
    Place place = kRoot;
    for (const std::uint64_t label : labels) {
      place = child_of(place, label);
      if (state.names_of.contains(place)) continue;
      added += state.predicted.contains(place) ? 0U : 1U;
      state.predicted[place] = now + ttl_;
    }
    return added;
  }

  std::size_t expire(Nanoseconds now) {
    std::size_t gone = 0;
    for (auto& [slot, state] : slots_) {
      gone += std::erase_if(state.predicted, [now](const auto& p) { return p.second <= now; });
    }
    return gone;
  }

  /// \return the place, and how many blocks became active.
  std::pair<Place, std::uint32_t> pin(Slot slot, std::span<const std::uint64_t> labels) {
    SlotState& state = slots_[slot];
    std::uint32_t newly = 0;
    Place place = kRoot;
    for (const std::uint64_t label : labels) {
      place = child_of(place, label);
      newly += state.active[place]++ == 0 ? 1U : 0U;
    }
    state.pins += labels.empty() ? 0U : 1U;
    return {place, newly};
  }

  std::uint32_t unpin(Slot slot, Place place) {
    SlotState& state = slots_[slot];
    std::uint32_t stopped = 0;
    state.pins -= place == kRoot ? 0U : 1U;
    for (; place != kRoot; place = parents_[place]) {
      if (--state.active.at(place) > 0) continue;
      state.active.erase(place);
      ++stopped;
    }
    return stopped;
  }

  [[nodiscard]] std::uint32_t held_depth(Slot slot, std::span<const std::uint64_t> labels) const {
    return depth(slot, labels, [](const SlotState& s, Place p) { return s.holds(p); });
  }
  [[nodiscard]] std::uint32_t active_depth(Slot slot, std::span<const std::uint64_t> labels) const {
    return depth(slot, labels, [](const SlotState& s, Place p) { return s.active.contains(p); });
  }

  [[nodiscard]] std::optional<std::uint64_t> namespace_seed_of(Slot slot,
                                                               std::uint64_t name) const {
    const auto state = slots_.find(slot);
    if (state == slots_.end()) return std::nullopt;
    const auto known = state->second.names.find(name);
    if (known == state->second.names.end()) return std::nullopt;
    return namespaces_.at(known->second.place);
  }

  [[nodiscard]] std::size_t held_blocks(Slot slot) const {
    const auto state = slots_.find(slot);
    if (state == slots_.end()) return 0;
    return state->second.names_of.size() + state->second.predicted.size();
  }
  [[nodiscard]] std::size_t held_exact() const {
    return sum([](const SlotState& s) { return s.names_of.size(); });
  }
  [[nodiscard]] std::size_t held_predicted() const {
    return sum([](const SlotState& s) { return s.predicted.size(); });
  }
  [[nodiscard]] std::size_t pins() const {
    return sum([](const SlotState& s) { return s.pins; });
  }

  /// Blocks that a tree must keep: held or pinned by someone, or before such a block.
  [[nodiscard]] std::size_t live_blocks() const {
    std::set<Place> live;
    const auto keep = [&](Place place) {
      for (; place != kRoot && live.insert(place).second; place = parents_[place]) {
      }
    };
    for (const auto& [slot, state] : slots_) {
      for (const auto& entry : state.names_of) keep(entry.first);
      for (const auto& entry : state.predicted) keep(entry.first);
      for (const auto& entry : state.active) keep(entry.first);
    }
    return live.size();
  }

  /// Every name that the slot holds, in order; for generators.
  [[nodiscard]] std::vector<std::uint64_t> names(Slot slot) const {
    std::vector<std::uint64_t> out;
    if (const auto state = slots_.find(slot); state != slots_.end()) {
      for (const auto& entry : state->second.names) out.push_back(entry.first);
    }
    return out;
  }

 private:
  struct Name {
    Place place;
    std::uint32_t copies;
  };
  using Names = std::map<std::uint64_t, Name>;
  struct SlotState {
    Names names;
    std::map<Place, std::uint32_t> names_of;  // how many names each exact place has
    std::map<Place, Nanoseconds> predicted;   // deadline
    std::map<Place, std::uint32_t> active;    // pins at or below
    std::size_t pins = 0;

    [[nodiscard]] bool holds(Place p) const {
      return names_of.contains(p) || predicted.contains(p);
    }
  };

  Place child_of(Place parent, std::uint64_t label) {
    const auto [child, made] = children_.try_emplace({parent, label}, parents_.size());
    if (made) parents_.push_back(parent);
    return child->second;
  }

  void store_block(SlotState& state, std::uint64_t name, Place place, StoreResult& result) {
    const auto known = state.names.find(name);
    if (known != state.names.end()) {
      if (known->second.place == place) {
        ++result.duplicates;
        known->second.copies += count_copies_ ? 1 : 0;
        return;
      }
      ++result.renamed;
      const Place before = known->second.place;
      if (const auto fresh = fresh_.find(before);
          drop_name(state, known) && fresh != fresh_.end()) {
        --result.applied;
        result.confirmed -= fresh->second;
        fresh_.erase(fresh);
      }
    }
    state.names[name] = {place, 1};
    if (state.names_of[place]++ > 0) {
      ++result.aliased;
    } else {
      ++result.applied;
      const auto confirmed = static_cast<std::uint32_t>(state.predicted.erase(place));
      result.confirmed += confirmed;
      fresh_[place] = confirmed;
    }
  }

  /// \return whether the place lost its last name.
  static bool drop_name(SlotState& state, Names::iterator name) {
    const auto count = state.names_of.find(name->second.place);
    state.names.erase(name);
    if (--count->second > 0) return false;
    state.names_of.erase(count);
    return true;
  }

  template <typename Holds>
  [[nodiscard]] std::uint32_t depth(Slot slot, std::span<const std::uint64_t> labels,
                                    Holds holds) const {
    const auto state = slots_.find(slot);
    if (state == slots_.end()) return 0;
    std::uint32_t reached = 0;
    Place place = kRoot;
    for (const std::uint64_t label : labels) {
      const auto child = children_.find({place, label});
      if (child == children_.end() || !holds(state->second, child->second)) break;
      place = child->second;
      ++reached;
    }
    return reached;
  }

  template <typename Size>
  [[nodiscard]] std::size_t sum(Size size) const {
    std::size_t total = 0;
    for (const auto& entry : slots_) total += size(entry.second);
    return total;
  }

  Nanoseconds ttl_;
  bool count_copies_;
  std::map<std::pair<Place, std::uint64_t>, Place> children_;
  std::vector<Place> parents_{kRoot};
  std::map<Place, std::uint32_t>
      fresh_;  // of the event at work: newly exact; 1 if predicted before
  std::map<Place, std::uint64_t> namespaces_;
  std::map<Slot, SlotState> slots_;
};

}  // namespace kvroute::testing
