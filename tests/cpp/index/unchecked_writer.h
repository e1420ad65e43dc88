#pragma once

#include <cstddef>
#include <deque>
#include <utility>

#include "choices.h"
#include "event_generator.h"
#include "ever_held.h"
#include "kvroute/index/prefix_tree.h"

namespace kvroute::testing {

/// Applies generated operations without comparing answers: for slots in which others have a hand.
class UncheckedWriter {
 public:
  UncheckedWriter(PrefixTree& tree, const GeneratorOptions& generator, std::uint64_t seed)
      : tree_(tree), choices_(seed), events_(choices_, generator) {}

  void run(std::size_t steps, EverHeld& ever) {
    for (std::size_t step = 0; step < steps; ++step) {
      const Op op = events_.next();
      ever.add(op);
      apply(op);
    }
  }

  /// Ends what it has pinned.
  void unpin_all() {
    for (const auto& [slot, pin] : pins_) tree_.unpin(slot, pin);
    pins_.clear();
  }

 private:
  void apply(const Op& op) {
    switch (op.kind) {
      case OpKind::kStore:
        tree_.store(op.slot, op.parent, op.names, op.labels, op.namespace_seed, op.tier);
        break;
      case OpKind::kStoreKnown: tree_.store_known(op.slot, op.names, op.tier); break;
      case OpKind::kRemove: tree_.remove(op.slot, op.names, op.tier); break;
      case OpKind::kClear: tree_.clear(op.slot); break;
      case OpKind::kClearTier: tree_.clear(op.slot, op.tier); break;
      case OpKind::kRelease: tree_.release_slot(op.slot); break;
      case OpKind::kPredict: tree_.predict(op.slot, op.labels, op.now); break;
      case OpKind::kSetCapacity: tree_.set_capacity(op.slot, op.capacity); break;
      case OpKind::kPin: pins_.emplace_back(op.slot, tree_.pin(op.slot, op.labels).pin); break;
      case OpKind::kUnpin:
        if (pins_.empty()) break;
        tree_.unpin(pins_.front().first, pins_.front().second);
        pins_.pop_front();
        break;
      case OpKind::kMatch: tree_.match(op.labels, overlaps_); break;
      case OpKind::kVisit: tree_.for_each_held([](const HeldChain&) {}); break;
      case OpKind::kExpire:
      case OpKind::kSnapshot: break;  // would reach into the slots of others
    }
  }

  PrefixTree& tree_;
  Choices choices_;
  EventGenerator events_;
  std::deque<std::pair<Slot, Pin>> pins_;
  Overlaps overlaps_;
};

}  // namespace kvroute::testing
