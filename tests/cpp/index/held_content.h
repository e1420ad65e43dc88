#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <unordered_set>

#include "kvroute/index/prefix_tree.h"
#include "reference_model.h"

namespace kvroute::testing {

/// What for_each_held shows of the slots [first, end), compared with the model block by block.
class HeldContent {
 public:
  HeldContent(const ReferenceModel& model, Slot first, Slot end)
      : model_(model), first_(first), end_(end) {}

  /// \return what differs first, if anything does.
  [[nodiscard]] std::optional<std::string> compare(const PrefixTree& tree) {
    std::optional<std::string> wrong;
    tree.for_each_held([&](const HeldChain& chain) {
      if (wrong || chain.slot < first_ || chain.slot >= end_) return;
      if (const char* what = visit(chain)) {
        wrong = "held chain of slot " + std::to_string(chain.slot) + ", tier " +
                std::to_string(index_of(chain.tier)) + ": " + what;
      }
    });
    if (wrong) return wrong;
    std::size_t expected = 0;
    for (const auto& [slot, state] : model_.slots()) {
      for (const auto& tier : state.tiers) expected += tier.places.size();
    }
    if (shown_.size() == expected) return std::nullopt;
    return "held chains: " + std::to_string(shown_.size()) + " blocks, expected " +
           std::to_string(expected);
  }

 private:
  static std::size_t key(Slot slot, Tier tier, Place place) {
    return (place * kMaxTargets + slot) * kTiers + index_of(tier);
  }

  const char* visit(const HeldChain& chain) {
    if (chain.engine_hashes.empty() || chain.engine_hashes.size() != chain.local_hashes.size()) {
      return "empty, or its spans differ in length";
    }
    const auto state = model_.slots().find(chain.slot);
    if (state == model_.slots().end()) return "a slot that holds nothing";
    const auto& names = state->second.in(chain.tier).names;
    const auto first = names.find(chain.engine_hashes[0]);
    if (first == names.end()) return "a name that is not held there";
    Place parent = model_.places().parent(first->second.place);
    if (const char* wrong = check_parent(chain, state->second, parent)) return wrong;
    for (std::size_t i = 0; i < chain.engine_hashes.size(); ++i) {
      const auto place = model_.places().find_child(parent, chain.local_hashes[i]);
      if (!place) return "a block of which nobody has spoken";
      if (const char* wrong = check_block(chain, chain.engine_hashes[i], *place)) return wrong;
      parent = *place;
    }
    return nullptr;
  }

  const char* check_parent(const HeldChain& chain, const ReferenceSlot& state, Place parent) const {
    if (parent == ReferenceModel::kRoot) {
      return chain.parent || !chain.parent_held ? "a parent, but it begins at the root" : nullptr;
    }
    if (!chain.parent) return "no parent, but it does not begin at the root";
    const bool held = state.exact_anywhere(parent);
    if (chain.parent_held != held) return "parent_held is not so";
    if (!held) return nullptr;
    const bool named = std::ranges::any_of(state.tiers, [&](const ReferenceSlot::Held& tier) {
      const auto name = tier.names.find(*chain.parent);
      return name != tier.names.end() && name->second.place == parent;
    });
    if (!named) return "another block's name for its parent";
    return seen_.contains(key(chain.slot, Tier::device, parent)) ? nullptr
                                                                 : "it comes before its parent";
  }

  const char* check_block(const HeldChain& chain, std::uint64_t name, Place place) {
    const auto& names = model_.slots().at(chain.slot).in(chain.tier).names;
    const auto known = names.find(name);
    if (known == names.end() || known->second.place != place) return "another block's name";
    if (model_.places().namespace_seed(place) != chain.namespace_seed) return "another namespace";
    if (!shown_.insert(key(chain.slot, chain.tier, place)).second) return "a block comes twice";
    seen_.insert(key(chain.slot, Tier::device, place));
    return nullptr;
  }

  const ReferenceModel& model_;
  Slot first_;
  Slot end_;
  std::unordered_set<std::size_t> shown_;
  std::unordered_set<std::size_t> seen_;  // in any tier
};

}  // namespace kvroute::testing
