#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "index/coverage.h"
#include "index/node_pins.h"
#include "index/predicted_ranges.h"
#include "index/run_store.h"
#include "kvroute/base/tier.h"

namespace kvroute::detail {

/// A time stamp that readers may set while they share the tree. Counts insertions and wraps.
class Stamp {
 public:
  Stamp() = default;
  Stamp(const Stamp& other) noexcept : value_(other.get()) {}
  Stamp& operator=(const Stamp& other) noexcept {
    set(other.get());
    return *this;
  }
  ~Stamp() = default;
  void set(std::uint32_t value) const noexcept { value_.store(value, std::memory_order_relaxed); }
  [[nodiscard]] std::uint32_t get() const noexcept {
    return value_.load(std::memory_order_relaxed);
  }
  /// The later of the two, both of the last two billion insertions.
  void raise(const Stamp& other) const noexcept {
    if (static_cast<std::int32_t>(other.get() - get()) > 0) set(other.get());
  }

 private:
  mutable std::atomic<std::uint32_t> value_{0};
};

/// What few nodes have: requests that run or were decided upon, and blocks below the device.
struct NodeExtras {
  NodePins pins;
  PredictedRanges predicted;
  std::array<Coverage, kTiers - 1> lower;  // host, disk, external
  std::uint32_t expiry_ticket = 0;         // 0: not in the expiry queue

  [[nodiscard]] bool empty() const noexcept;
};

/// A window on a run, with what is known of its blocks.
class Node {
 public:
  const std::uint64_t* labels = nullptr;  // in the run's storage
  std::uint32_t length = 0;
  std::uint32_t start = 0;  // blocks before this node
  NodeId parent = 0;
  std::uint32_t children = 0;
  NodeId children_xor = 0;  // of their ids: the only child's, where there is one
  RunId run = 0;
  std::uint32_t begin = 0;  // of the window in its run
  Stamp last_use;
  Coverage coverage;  // on the device

  /// What the node has beyond this; an empty one if it has nothing.
  [[nodiscard]] const NodeExtras& extras() const noexcept { return extras_ ? *extras_ : kNone; }
  [[nodiscard]] const NodePins& pins() const noexcept { return extras().pins; }
  [[nodiscard]] const PredictedRanges& predicted() const noexcept { return extras().predicted; }
  /// The same, to be changed; `tidy_extras` is to follow where something was taken away.
  [[nodiscard]] NodeExtras& make_extras(std::size_t& node_bytes);
  void tidy_extras(std::size_t& node_bytes) noexcept;

  [[nodiscard]] bool has_lower() const noexcept;
  [[nodiscard]] const Coverage& coverage_in(Tier tier) const noexcept {
    return tier == Tier::device ? coverage : extras().lower[index_of(tier) - 1];
  }
  [[nodiscard]] Coverage& make_coverage_in(Tier tier, std::size_t& node_bytes) {
    return tier == Tier::device ? coverage : make_extras(node_bytes).lower[index_of(tier) - 1];
  }
  /// One past the last block that anyone holds, in any tier, or has pinned.
  [[nodiscard]] std::uint32_t needed() const noexcept;
  /// Whether the slot holds the block in that tier by announcement.
  [[nodiscard]] bool holds_exactly(Slot slot, Tier tier, std::uint32_t at) const noexcept;

 private:
  static const NodeExtras kNone;
  std::unique_ptr<NodeExtras> extras_;
};

}  // namespace kvroute::detail
