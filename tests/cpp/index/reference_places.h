#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace kvroute::testing {

/// A block's place: what its whole path of local hashes names. Interned one by one, never freed.
using Place = std::size_t;

/// All places that were ever spoken of; 0 is the root.
class ReferencePlaces {
 public:
  static constexpr Place kRoot = 0;

  /// The place below `parent`; made if it is new.
  Place child_of(Place parent, std::uint64_t label) {
    const auto [child, made] = children_.try_emplace({parent, label}, places_.size());
    if (made) places_.push_back({parent, label, places_[parent].depth + 1});
    return child->second;
  }
  [[nodiscard]] std::optional<Place> find_child(Place parent, std::uint64_t label) const {
    const auto child = children_.find({parent, label});
    if (child == children_.end()) return std::nullopt;
    return child->second;
  }

  /// Above every place that there is.
  [[nodiscard]] Place end() const { return places_.size(); }
  [[nodiscard]] Place parent(Place place) const { return places_[place].parent; }
  [[nodiscard]] std::uint64_t label(Place place) const { return places_[place].label; }
  /// Blocks from the root to here.
  [[nodiscard]] std::uint32_t depth(Place place) const { return places_[place].depth; }

  void set_namespace_seed(Place place, std::uint64_t seed) { places_[place].namespace_seed = seed; }
  [[nodiscard]] std::uint64_t namespace_seed(Place place) const {
    return places_[place].namespace_seed;
  }

 private:
  struct Entry {
    Place parent = kRoot;
    std::uint64_t label = 0;
    std::uint32_t depth = 0;
    std::uint64_t namespace_seed = 0;
  };
  std::map<std::pair<Place, std::uint64_t>, Place> children_;
  std::vector<Entry> places_{Entry{}};
};

}  // namespace kvroute::testing
