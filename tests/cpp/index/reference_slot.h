#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "kvroute/base/clock.h"
#include "kvroute/base/tier.h"
#include "reference_places.h"

namespace kvroute::testing {

/// What one slot holds, by announcement and by assumption, and what its requests use.
struct ReferenceSlot {
  /// One engine hash: the place that it stands for, and its copies in each tier. A name without
  /// copies does not exist.
  struct Name {
    Place place = 0;
    std::array<std::uint32_t, kTiers> copies{};
  };
  struct Prediction {
    std::optional<Nanoseconds> deadline;
    std::uint64_t instant = 0;  // of the last call that predicted it
  };
  using Names = std::map<std::uint64_t, Name>;

  Names names;
  std::array<std::map<Place, std::uint32_t>, kTiers> held;  // names that each place has in a tier
  std::map<Place, Prediction> predicted;
  std::map<Place, std::uint32_t> active;  // pins at or below
  std::size_t pins = 0;
  std::optional<std::uint32_t> capacity;

  [[nodiscard]] bool exact(Place place, Tier tier) const {
    return held[index_of(tier)].contains(place);
  }
  [[nodiscard]] bool exact_anywhere(Place place) const {
    return std::ranges::any_of(held, [&](const auto& tier) { return tier.contains(place); });
  }
  /// In some tier up to `tier`, by announcement or by assumption.
  [[nodiscard]] bool holds(Place place, Tier tier) const {
    if (predicted.contains(place)) return true;
    for (std::size_t i = 0; i <= index_of(tier); ++i) {
      if (held[i].contains(place)) return true;
    }
    return false;
  }

  /// The name stands for nothing in this tier from now on.
  /// \return whether its place is no longer held there.
  bool drop_tier(Names::iterator name, Tier tier) {
    name->second.copies[index_of(tier)] = 0;
    auto& places = held[index_of(tier)];
    const auto place = places.find(name->second.place);
    if (--place->second > 0) return false;
    places.erase(place);
    return true;
  }
  void erase_if_unused(Names::iterator name) {
    const auto& copies = name->second.copies;
    if (std::ranges::all_of(copies, [](std::uint32_t n) { return n == 0; })) names.erase(name);
  }

  /// Least recently predicted blocks beyond the capacity go, the deepest first; pinned ones stay.
  /// \return how many went.
  std::size_t enforce_capacity(const ReferencePlaces& places) {
    std::size_t gone = 0;
    while (capacity && predicted.size() > *capacity) {
      auto victim = predicted.end();
      for (auto at = predicted.begin(); at != predicted.end(); ++at) {
        if (active.contains(at->first)) continue;
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
