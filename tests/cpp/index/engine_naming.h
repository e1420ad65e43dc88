#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "choices.h"

namespace kvroute::testing {

/// A bijection that scatters (SplitMix64's).
inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// How the engines of a fleet name blocks.
enum class Naming : std::uint8_t {
  kAgree,    // all alike, by content
  kOwn,      // by content, each engine differently
  kPartly,   // by content, mostly alike; each engine deviates for some blocks
  kCounted,  // by number: one name is different content in different engines
  kReused    // by number, and sometimes by one that stands for other content already
};

/// Names that one engine gives to paths of labels.
class EngineNames {
 public:
  EngineNames(Naming naming, std::uint32_t engine) : naming_(naming), own_(mix(engine + 100)) {}

  [[nodiscard]] std::vector<std::uint64_t> of(const std::vector<std::uint64_t>& labels,
                                              Choices& choices) {
    std::vector<std::uint64_t> names;
    std::uint64_t path = 7;
    for (const std::uint64_t label : labels) {
      path = mix(mix(path) + label);  // labels come from `mix` too: xored they could cancel out
      names.push_back(name_of(path, choices));
    }
    return names;
  }

 private:
  std::uint64_t name_of(std::uint64_t path, Choices& choices) {
    switch (naming_) {
      case Naming::kAgree: return path;
      case Naming::kOwn: return mix(path ^ own_);
      case Naming::kPartly: return mix(path ^ own_) % 6 == 0 ? mix(path ^ own_) : path;
      case Naming::kCounted:
      case Naming::kReused: break;
    }
    const auto [number, fresh] = numbers_.try_emplace(path, numbers_.size() + 1);
    if (fresh && naming_ == Naming::kReused && choices.one_in(6)) {
      number->second = 1 + choices.below(static_cast<std::uint32_t>(numbers_.size()));
    }
    return number->second;
  }

  Naming naming_;
  std::uint64_t own_;
  std::map<std::uint64_t, std::uint64_t> numbers_;
};

}  // namespace kvroute::testing
