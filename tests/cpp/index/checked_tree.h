#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "event_generator.h"
#include "kvroute/index/prefix_tree.h"
#include "reference_model.h"

namespace kvroute::testing {

/// A prefix tree and its reference model side by side: every operation goes to both, and every
/// answer is compared. The first difference is kept as a sentence.
class CheckedTree {
 public:
  /// Others may use the tree at the same time, but not the slots [first, first + count); answers
  /// are compared for these only.
  CheckedTree(PrefixTree& tree, const IndexOptions& options, Slot first = 0,
              Slot count = kMaxTargets)
      : tree_(tree), model_(options), first_(first), end_(first + count) {}

  /// \return what differs, if anything does.
  [[nodiscard]] std::optional<std::string> apply(Op op) {
    switch (op.kind) {
      case OpKind::kStore: return store(op);
      case OpKind::kRemove: return remove(op);
      case OpKind::kClear:
        tree_.clear(op.slot);
        model_.clear(op.slot);
        return std::nullopt;
      case OpKind::kRelease:
        tree_.release_slot(op.slot);
        model_.clear(op.slot);
        return std::nullopt;
      case OpKind::kPredict:
        return same("predict", tree_.predict(op.slot, op.labels, op.now),
                    model_.predict(op.slot, op.labels, op.now));
      case OpKind::kExpire: return expire(op.now);
      case OpKind::kPin: return pin(op);
      case OpKind::kUnpin: return unpin(op);
      case OpKind::kMatch: return match(op.labels);
    }
    return std::nullopt;
  }

  /// Sizes and every invariant.
  [[nodiscard]] std::optional<std::string> check() const {
    if (auto wrong = tree_.audit()) return "audit: " + *wrong;
    const IndexStats stats = tree_.stats();
    if (auto wrong = same("held_exact", stats.held_exact, model_.held_exact())) return wrong;
    if (auto wrong = same("held_predicted", stats.held_predicted, model_.held_predicted())) {
      return wrong;
    }
    if (auto wrong = same("pins", stats.pins, model_.pins())) return wrong;
    return same("blocks", stats.blocks, model_.live_blocks());
  }

  /// What another owner of the tree has let expire, expires here too.
  std::size_t expire_model(Nanoseconds now) { return model_.expire(now); }
  /// Blocks that each of the slots holds.
  [[nodiscard]] std::optional<std::string> check_slots() const {
    for (Slot slot = first_; slot < end_; ++slot) {
      if (auto wrong = same("held blocks", tree_.held_blocks(slot), model_.held_blocks(slot))) {
        return "slot " + std::to_string(slot) + ", " + *wrong;
      }
    }
    return std::nullopt;
  }

 private:
  struct PlacedPin {
    Slot slot;
    Pin pin;
    ReferenceModel::Place place;
  };

  template <typename T, typename U>
  static std::optional<std::string> same(const char* what, const T& got, const U& expected) {
    if (got == static_cast<T>(expected)) return std::nullopt;
    std::ostringstream out;
    out << what << ": got " << got << ", expected " << expected;
    return out.str();
  }

  std::optional<std::string> store(Op& op) {
    if (op.namespace_seed == EventGenerator::kInherit) {
      op.namespace_seed = model_.namespace_seed_of(op.slot, *op.parent).value_or(0);
    }
    const StoreResult got = tree_.store(op.slot, op.parent, op.names, op.labels, op.namespace_seed);
    const StoreResult expected =
        model_.store(op.slot, op.parent, op.names, op.labels, op.namespace_seed);
    if (auto wrong = same("applied", got.applied, expected.applied)) return wrong;
    if (auto wrong = same("duplicates", got.duplicates, expected.duplicates)) return wrong;
    if (auto wrong = same("aliased", got.aliased, expected.aliased)) return wrong;
    if (auto wrong = same("confirmed", got.confirmed, expected.confirmed)) return wrong;
    if (auto wrong = same("renamed", got.renamed, expected.renamed)) return wrong;
    if (auto wrong = same("unknown_parent", got.unknown_parent, expected.unknown_parent)) {
      return wrong;
    }
    if (op.names.empty()) return std::nullopt;
    const auto seed = tree_.namespace_seed_of(op.slot, op.names.back());
    return same("namespace", seed.value_or(99),
                model_.namespace_seed_of(op.slot, op.names.back()).value_or(99));
  }

  std::optional<std::string> remove(const Op& op) {
    const RemoveResult got = tree_.remove(op.slot, op.names);
    const RemoveResult expected = model_.remove(op.slot, op.names);
    if (auto wrong = same("removed", got.removed, expected.removed)) return wrong;
    if (auto wrong = same("kept", got.kept, expected.kept)) return wrong;
    return same("unknown", got.unknown, expected.unknown);
  }

  std::optional<std::string> expire(Nanoseconds now) {
    std::size_t gone = 0;
    while (const std::size_t some = tree_.expire(now)) gone += some;
    return same("expired", gone, model_.expire(now));
  }

  std::optional<std::string> pin(const Op& op) {
    if (pins_.size() >= 40) return std::nullopt;
    const PinResult got = tree_.pin(op.slot, op.labels);
    const auto [place, newly] = model_.pin(op.slot, op.labels);
    pins_.push_back({op.slot, got.pin, place});
    return same("newly active", got.newly_active, newly);
  }

  std::optional<std::string> unpin(const Op& op) {
    if (pins_.empty()) return std::nullopt;
    const auto at = pins_.begin() + static_cast<std::ptrdiff_t>(op.which % pins_.size());
    const PlacedPin out = *at;
    pins_.erase(at);
    return same("no longer active", tree_.unpin(out.slot, out.pin),
                model_.unpin(out.slot, out.place));
  }

  std::optional<std::string> match(const std::vector<std::uint64_t>& labels) {
    tree_.match(labels, overlaps_);
    for (Slot slot = first_; slot < std::min<std::size_t>(end_, overlaps_.held.size()); ++slot) {
      if (auto wrong = same("held", overlaps_.held[slot], model_.held_depth(slot, labels))) {
        return "slot " + std::to_string(slot) + ", " + *wrong;
      }
      if (auto wrong = same("active", overlaps_.active[slot], model_.active_depth(slot, labels))) {
        return "slot " + std::to_string(slot) + ", " + *wrong;
      }
    }
    return std::nullopt;
  }

  PrefixTree& tree_;
  ReferenceModel model_;
  Slot first_;
  Slot end_;
  std::vector<PlacedPin> pins_;
  Overlaps overlaps_;
};

/// Drives a checked tree with `steps` generated operations (or until the choices are used up) and
/// checks every invariant each `check_every`. \return the first difference, with its step.
inline std::optional<std::string> run_differential(Choices& choices, const IndexOptions& index,
                                                   const GeneratorOptions& generator,
                                                   std::size_t steps, std::size_t check_every) {
  PrefixTree tree(index);
  CheckedTree checked(tree, index);
  EventGenerator events(choices, generator);
  for (std::size_t step = 0; step < steps && !choices.exhausted(); ++step) {
    auto wrong = checked.apply(events.next());
    if (!wrong && step % check_every == 0) wrong = checked.check();
    if (wrong) return "step " + std::to_string(step) + ": " + *wrong;
  }
  return checked.check();
}

/// A shape of traffic drawn from the choices themselves, so that every seed is another one.
inline std::pair<IndexOptions, GeneratorOptions> draw_options(Choices& choices) {
  IndexOptions index;
  index.predicted_ttl_seconds = 1 + choices.below(60);
  index.count_copies = !choices.one_in(4);
  GeneratorOptions generator;
  generator.slots = 1 + choices.below(6);
  if (choices.one_in(4)) generator.first_slot = 60 + choices.below(100);
  generator.alphabet = 1 + choices.below(4);
  generator.max_length = 3 + choices.below(120);
  generator.own_names = choices.one_in(3);
  generator.chaos = choices.one_in(2);
  return {index, generator};
}

}  // namespace kvroute::testing
