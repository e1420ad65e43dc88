#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "differences.h"
#include "held_content.h"
#include "kvroute/base/error.h"
#include "kvroute/index/prefix_tree.h"
#include "operation.h"
#include "reference_model.h"

namespace kvroute::testing {

/// A prefix tree and its reference model side by side: every operation goes to both, and every
/// answer is compared. The first difference is kept as a sentence.
class CheckedTree {
 public:
  /// Others may use the tree at the same time, but not the slots [first, first + count); answers
  /// are compared for these only. With others the tree must not be saved and loaded.
  CheckedTree(PrefixTree& tree, const IndexOptions& options, Slot first = 0,
              Slot count = kMaxTargets)
      : tree_(tree), options_(options), model_(options), first_(first), end_(first + count) {}

  /// \return what differs, if anything does.
  [[nodiscard]] std::optional<std::string> apply(const Op& op) {
    switch (op.kind) {
      case OpKind::kStore: return store(op);
      case OpKind::kStoreKnown:
        return difference(tree_.store_known(op.slot, op.names, op.tier),
                          model_.store_known(op.slot, op.names, op.tier));
      case OpKind::kRemove:
        return difference(tree_.remove(op.slot, op.names, op.tier),
                          model_.remove(op.slot, op.names, op.tier));
      case OpKind::kClear:
        tree_.clear(op.slot);
        model_.clear(op.slot);
        return std::nullopt;
      case OpKind::kClearTier:
        tree_.clear(op.slot, op.tier);
        model_.clear(op.slot, op.tier);
        return std::nullopt;
      case OpKind::kRelease:
        tree_.release_slot(op.slot);
        model_.release(op.slot);
        return std::nullopt;
      case OpKind::kPredict:
        return same("predict", tree_.predict(op.slot, op.labels, now(op)),
                    model_.predict(op.slot, op.labels, now(op)));
      case OpKind::kSetCapacity:
        tree_.set_capacity(op.slot, op.capacity);
        model_.set_capacity(op.slot, op.capacity);
        return std::nullopt;
      case OpKind::kExpire: return expire(now(op));
      case OpKind::kPin: return pin(op);
      case OpKind::kUnpin: return unpin(op);
      case OpKind::kMatch: return match(op.labels);
      case OpKind::kVisit: return HeldContent(model_, first_, end_).compare(tree_);
      case OpKind::kSnapshot: return save_and_load(op);
    }
    return std::nullopt;
  }

  /// Sizes, counters and every invariant. The tree must be used by nobody else.
  [[nodiscard]] std::optional<std::string> check() const {
    if (auto wrong = tree_.audit()) return "audit: " + *wrong;
    const IndexStats got = tree_.stats();
    const IndexStats expected = model_.stats();
    if (auto wrong = difference_of_sizes(got, expected)) return wrong;
    return difference_of_counters(got, got_then_, expected, expected_then_);
  }

  /// Sizes and counters as the model has them.
  [[nodiscard]] IndexStats expected() const { return model_.stats(); }
  /// What another owner of the tree has let expire, expires here too.
  std::size_t expire_model(Nanoseconds now) { return model_.expire(now); }
  /// Blocks that each of the slots holds, and which.
  [[nodiscard]] std::optional<std::string> check_slots() const {
    for (const auto& [slot, state] : model_.slots()) {
      if (auto wrong = same("held blocks", tree_.held_blocks(slot), model_.held_blocks(slot))) {
        return in_slot(slot, *wrong);
      }
    }
    return HeldContent(model_, first_, end_).compare(tree_);
  }

 private:
  struct PlacedPin {
    Slot slot;
    Pin pin;
    Place place;
  };

  template <typename T, typename U>
  static std::optional<std::string> same(const char* what, const T& got, const U& expected) {
    return Differences().same(what, got, expected).first();
  }
  static std::string in_slot(Slot slot, const std::string& wrong) {
    return "slot " + std::to_string(slot) + ", " + wrong;
  }

  [[nodiscard]] Nanoseconds now(const Op& op) const { return op.now + shift_; }

  std::optional<std::string> store(const Op& op) {
    const std::uint64_t its_seed = seed_of(tree_, op);
    const StoreResult got = tree_.store(op.slot, op.parent, op.names, op.labels, its_seed, op.tier);
    const StoreResult expected =
        model_.store(op.slot, op.parent, op.names, op.labels, its_seed, op.tier);
    if (auto wrong = difference(got, expected)) return wrong;
    if (op.names.empty()) return std::nullopt;
    const auto seed = tree_.namespace_seed_of(op.slot, op.names.back());
    return same("namespace", seed.value_or(99),
                model_.namespace_seed_of(op.slot, op.names.back()).value_or(99));
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
    const std::vector<Place> path = model_.path(labels);
    const bool alone = first_ == 0 && end_ == kMaxTargets;
    for (const auto& depths : overlaps_.lower) {
      if (!depths.empty() && alone && !model_.holds_lower()) return "lower: expected to be empty";
      if (!depths.empty() && depths.size() != overlaps_.held.size()) return "lower: its size";
    }
    Slot end = static_cast<Slot>(overlaps_.held.size());
    if (!model_.slots().empty()) end = std::max(end, model_.slots().rbegin()->first + 1);
    for (Slot slot = first_; slot < std::min(end_, end); ++slot) {
      Differences differences;
      for (std::size_t i = 0; i < kTiers; ++i) {
        const auto tier = static_cast<Tier>(i);
        differences.same(kDepths[i], overlaps_.depth(slot, tier),
                         model_.held_depth(slot, path, tier));
      }
      const auto active = slot < overlaps_.active.size() ? overlaps_.active[slot] : 0;
      differences.same("active", active, model_.active_depth(slot, path));
      if (differences.first()) return in_slot(slot, *differences.first());
    }
    return std::nullopt;
  }

  /// Into the tree itself, or into a fresh one that takes its place; or from damaged bytes, or
  /// while something is pinned, which must change nothing.
  std::optional<std::string> save_and_load(const Op& op) {
    const std::uint32_t way = op.which % 6;
    if (way < 2) {
      if (!refuses(damaged(tree_.snapshot(now(op)), op.which), now(op)))
        return "loaded from damage";
      return check();
    }
    if (way == 2 && model_.pins() > 0) {
      if (!refuses(tree_.snapshot(now(op)), now(op))) return "loaded under pins";
      return check();
    }
    for (Op end; !pins_.empty();) {
      if (auto wrong = unpin(end)) return wrong;
    }
    const std::string saved = tree_.snapshot(now(op));
    const Nanoseconds later = op.which % 5 * 1'000'000'000;
    if (way == 3) {
      tree_.restore(saved, now(op) + later);
    } else {
      PrefixTree fresh(options_);
      fresh.restore(saved, now(op) + later);
      tree_ = std::move(fresh);
    }
    model_.postpone(later);
    shift_ += later;
    for (const auto& [slot, state] : model_.slots()) tree_.set_capacity(slot, state.capacity);
    got_then_ = tree_.stats();
    expected_then_ = model_.stats();
    auto wrong = check();
    if (!wrong) wrong = check_slots();
    if (wrong) return "loaded, " + *wrong;
    return std::nullopt;
  }

  /// One bit of another value, or the end missing.
  static std::string damaged(std::string bytes, std::uint32_t which) {
    const std::size_t at = which * (bytes.size() - 1) / 1000;
    if (which % 2 == 0) {
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << which % 8));
    } else {
      bytes.resize(at);
    }
    return bytes;
  }

  bool refuses(const std::string& snapshot, Nanoseconds now) {
    try {
      tree_.restore(snapshot, now);
    } catch (const InvalidArgument&) {
      return true;
    }
    return false;
  }

  static constexpr std::array<const char*, kTiers> kDepths{
      "held on the device", "held down to the host", "held down to the disk", "held anywhere"};

  PrefixTree& tree_;
  IndexOptions options_;
  ReferenceModel model_;
  Slot first_;
  Slot end_;
  std::vector<PlacedPin> pins_;
  Overlaps overlaps_;
  Nanoseconds shift_ = 0;  // loading takes time, and clocks do not go back
  IndexStats got_then_;    // counters are compared from here on
  IndexStats expected_then_;
};

}  // namespace kvroute::testing
