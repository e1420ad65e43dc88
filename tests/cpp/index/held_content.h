#pragma once

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>

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
      for (const auto& tier : state.held) expected += tier.size();
    }
    if (shown_.size() == expected) return std::nullopt;
    return "held chains: " + std::to_string(shown_.size()) + " blocks, expected " +
           std::to_string(expected);
  }

 private:
  const char* visit(const HeldChain& chain) {
    if (chain.engine_hashes.empty() || chain.engine_hashes.size() != chain.local_hashes.size()) {
      return "empty, or its spans differ in length";
    }
    const auto first = model_.place_of(chain.slot, chain.engine_hashes[0]);
    if (!first) return "a name that the slot does not know";
    if (const char* wrong = check_parent(chain, model_.places().parent(*first))) return wrong;
    Place parent = model_.places().parent(*first);
    for (std::size_t i = 0; i < chain.engine_hashes.size(); ++i) {
      const auto place = model_.places().find_child(parent, chain.local_hashes[i]);
      if (!place) return "a block of which nobody has spoken";
      if (const char* wrong = check_block(chain, chain.engine_hashes[i], *place)) return wrong;
      parent = *place;
    }
    return nullptr;
  }

  const char* check_parent(const HeldChain& chain, Place parent) const {
    if (parent == ReferenceModel::kRoot) {
      return chain.parent || !chain.parent_held ? "a parent, but it begins at the root" : nullptr;
    }
    if (!chain.parent) return "no parent, but it does not begin at the root";
    const bool held = model_.slots().at(chain.slot).exact_anywhere(parent);
    if (chain.parent_held != held) return "parent_held is not so";
    if (!held) return nullptr;
    if (model_.place_of(chain.slot, *chain.parent) != parent) return "another block's parent name";
    return seen_.contains({chain.slot, parent}) ? nullptr : "it comes before its parent";
  }

  const char* check_block(const HeldChain& chain, std::uint64_t name, Place place) {
    const ReferenceSlot& state = model_.slots().at(chain.slot);
    const auto known = state.names.find(name);
    if (known == state.names.end() || known->second.place != place) return "another block's name";
    if (known->second.copies[index_of(chain.tier)] == 0) return "a name of another tier";
    if (model_.places().namespace_seed(place) != chain.namespace_seed) return "another namespace";
    if (!shown_.insert({chain.slot, chain.tier, place}).second) return "a block comes twice";
    seen_.insert({chain.slot, place});
    return nullptr;
  }

  const ReferenceModel& model_;
  Slot first_;
  Slot end_;
  std::set<std::tuple<Slot, Tier, Place>> shown_;
  std::set<std::pair<Slot, Place>> seen_;  // in any tier
};

}  // namespace kvroute::testing
