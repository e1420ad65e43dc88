#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>

#include "kvroute/base/clock.h"
#include "kvroute/base/tier.h"
#include "reference_places.h"

namespace kvroute::testing {

/// What one slot holds, by announcement and by assumption, and what its requests use.
struct ReferenceSlot {
  /// What one engine hash stands for in one tier.
  struct Name {
    Place place = 0;
    std::uint32_t copies = 0;
  };
  struct Prediction {
    std::optional<Nanoseconds> deadline;
    std::uint64_t instant = 0;  // of the last call that predicted it
  };
  struct Held {
    std::unordered_map<std::uint64_t, Name> names;
    std::map<Place, std::uint32_t> places;  // with how many names each has
  };

  std::array<Held, kTiers> tiers;
  std::map<Place, Prediction> predicted;
  std::map<Place, std::uint32_t> active;  // pins at or below
  std::size_t pins = 0;
  std::optional<std::uint32_t> capacity;

  [[nodiscard]] Held& in(Tier tier) { return tiers[index_of(tier)]; }
  [[nodiscard]] const Held& in(Tier tier) const { return tiers[index_of(tier)]; }

  /// What the name stands for: in the nearest tier, if in several for different places.
  [[nodiscard]] std::optional<Place> find(std::uint64_t name) const {
    for (const Held& tier : tiers) {
      if (const auto known = tier.names.find(name); known != tier.names.end()) {
        return known->second.place;
      }
    }
    return std::nullopt;
  }
  [[nodiscard]] bool exact(Place place, Tier tier) const { return in(tier).places.contains(place); }
  [[nodiscard]] bool exact_anywhere(Place place) const {
    return std::ranges::any_of(tiers,
                               [&](const Held& tier) { return tier.places.contains(place); });
  }
  /// In some tier up to `tier`, by announcement or by assumption.
  [[nodiscard]] bool holds(Place place, Tier tier) const {
    if (predicted.contains(place)) return true;
    for (std::size_t i = 0; i <= index_of(tier); ++i) {
      if (tiers[i].places.contains(place)) return true;
    }
    return false;
  }

  /// The name stands for nothing in this tier from now on.
  /// \return whether its place is no longer held there.
  bool drop_name(Tier tier, std::uint64_t name) {
    Held& held = in(tier);
    const auto known = held.names.find(name);
    const auto place = held.places.find(known->second.place);
    held.names.erase(known);
    if (--place->second > 0) return false;
    held.places.erase(place);
    return true;
  }

  /// Least recently predicted blocks beyond the capacity go, the deepest first; pinned ones stay.
  /// \return how many went.
  std::size_t enforce_capacity(const ReferencePlaces& places) {
    std::size_t gone = 0;
    while (capacity && predicted.size() > *capacity) {
      auto victim = predicted.end();
      for (auto at = predicted.begin(); at != predicted.end(); ++at) {
        if (active.contains(at->first) || at->second.deadline) continue;
        const bool first = victim == predicted.end() ||
                           at->second.instant < victim->second.instant ||
                           (at->second.instant == victim->second.instant &&
                            places.depth(at->first) > places.depth(victim->first));
        if (first) victim = at;
      }
      if (victim == predicted.end()) break;
      predicted.erase(victim);
      ++gone;
    }
    return gone;
  }
};

}  // namespace kvroute::testing
