#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "differences.h"
#include "kvroute/index/prefix_tree.h"
#include "operation.h"
#include "reference_model.h"

namespace kvroute::testing {

/// A prefix tree with a memory limit beside a model without one: the tree may hold less than the
/// model, never more, and after no insertion needs more memory than it is allowed.
///
/// Names must stand for one content each: where a name changes its meaning, a tree that has
/// forgotten the one or the other may rightly hold what the model does not.
class BoundedTree {
 public:
  explicit BoundedTree(const IndexOptions& options)
      : tree_(options),
        limit_(*options.memory_limit),
        model_(options, ReferenceModel::Kind::kUpperBound) {}

  /// \return what is above its bound, if anything is.
  [[nodiscard]] std::optional<std::string> apply(const Op& op) {
    switch (op.kind) {
      case OpKind::kStore:
        static_cast<void>(
            tree_.store(op.slot, op.parent, op.names, op.labels, seed_of(tree_, op), op.tier));
        model_.store(op.slot, op.parent, op.names, op.labels, op.namespace_seed, op.tier);
        break;
      case OpKind::kStoreKnown:
        tree_.store_known(op.slot, op.names, op.tier);
        model_.store_known(op.slot, op.names, op.tier);
        break;
      case OpKind::kRemove:
        tree_.remove(op.slot, op.names, op.tier);
        model_.remove(op.slot, op.names, op.tier);
        break;
      case OpKind::kClear:
        tree_.clear(op.slot);
        model_.clear(op.slot);
        break;
      case OpKind::kClearTier:
        tree_.clear(op.slot, op.tier);
        model_.clear(op.slot, op.tier);
        break;
      case OpKind::kRelease:
        tree_.release_slot(op.slot);
        model_.release(op.slot);
        break;
      case OpKind::kPredict:
        tree_.predict(op.slot, op.labels, op.now);
        model_.predict(op.slot, op.labels, op.now);
        break;
      case OpKind::kSetCapacity:
        tree_.set_capacity(op.slot, op.capacity);
        model_.set_capacity(op.slot, op.capacity);
        break;
      case OpKind::kExpire:
        while (tree_.expire(op.now) > 0) continue;
        model_.expire(op.now);
        break;
      case OpKind::kPin:
        if (pins_.size() < 20) pins_.emplace_back(op.slot, tree_.pin(op.slot, op.labels).pin);
        break;
      case OpKind::kUnpin:
        if (!pins_.empty()) {
          tree_.unpin(pins_.front().first, pins_.front().second);
          pins_.pop_front();
        }
        break;
      case OpKind::kMatch: return match(op.labels);
      case OpKind::kVisit: return visit();
      case OpKind::kSnapshot: return save_and_load(op);
    }
    const bool inserts =
        op.kind == OpKind::kStore || op.kind == OpKind::kStoreKnown || op.kind == OpKind::kPredict;
    return inserts ? within_limit() : std::nullopt;
  }

  /// Sizes and every invariant.
  [[nodiscard]] std::optional<std::string> check() const {
    if (auto wrong = tree_.audit()) return "audit: " + *wrong;
    const IndexStats got = tree_.stats();
    const IndexStats most = model_.stats();
    return Above()
        .check("held_exact", got.held_exact, most.held_exact)
        .check("held_lower", got.held_lower, most.held_lower)
        .check("held_predicted", got.held_predicted, most.held_predicted)
        .wrong;
  }
  /// What is held is held in the model.
  [[nodiscard]] std::optional<std::string> check_slots() const { return visit(); }
  /// What came to pass; forgotten blocks included.
  [[nodiscard]] IndexStats expected() const { return tree_.stats(); }

 private:
  struct Above {
    std::optional<std::string> wrong;

    Above& check(const char* what, std::size_t got, std::size_t most) {
      if (!wrong && got > most) {
        wrong = std::string(what) + ": got " + std::to_string(got) + ", expected at most " +
                std::to_string(most);
      }
      return *this;
    }
  };

  [[nodiscard]] std::optional<std::string> within_limit() const {
    const IndexStats stats = tree_.stats();
    if (stats.pins > 0) return std::nullopt;
    return Above().check("bytes", stats.bytes.total(), limit_).wrong;
  }

  std::optional<std::string> match(const std::vector<std::uint64_t>& labels) {
    tree_.match(labels, overlaps_);
    const std::vector<Place> path = model_.path(labels);
    for (Slot slot = 0; slot < overlaps_.held.size(); ++slot) {
      for (std::size_t i = 0; i < kTiers; ++i) {
        const auto tier = static_cast<Tier>(i);
        const auto wrong =
            Above()
                .check("depth", overlaps_.depth(slot, tier), model_.held_depth(slot, path, tier))
                .wrong;
        if (wrong) return "slot " + std::to_string(slot) + ", " + *wrong;
      }
    }
    return std::nullopt;
  }

  std::optional<std::string> visit() const {
    std::optional<std::string> wrong;
    tree_.for_each_held([&](const HeldChain& chain) {
      for (const std::uint64_t name : chain.engine_hashes) {
        const auto state = model_.slots().find(chain.slot);
        if (state == model_.slots().end() || !state->second.in(chain.tier).names.contains(name)) {
          wrong = "slot " + std::to_string(chain.slot) + ": a held chain that nobody holds";
        }
      }
    });
    return wrong;
  }

  std::optional<std::string> save_and_load(const Op& op) {
    if (!pins_.empty()) return std::nullopt;
    const IndexStats before = tree_.stats();
    tree_.restore(tree_.snapshot(op.now), op.now);
    const IndexStats after = tree_.stats();
    if (auto wrong = Above()
                         .check("held_exact, loaded", after.held_exact, before.held_exact)
                         .check("held_lower, loaded", after.held_lower, before.held_lower)
                         .wrong) {
      return wrong;
    }
    if (auto wrong = tree_.audit()) return "audit, loaded: " + *wrong;
    return within_limit();
  }

  PrefixTree tree_;
  std::size_t limit_;
  ReferenceModel model_;
  std::deque<std::pair<Slot, Pin>> pins_;
  Overlaps overlaps_;
};

}  // namespace kvroute::testing
