#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"
#include "kvroute/base/tier.h"

namespace kvroute::testing {

enum class OpKind : std::uint8_t {
  kStore,
  kStoreKnown,
  kRemove,
  kClear,
  kClearTier,
  kRelease,
  kPredict,
  kSetCapacity,
  kExpire,
  kPin,
  kUnpin,
  kMatch,
  kVisit,    // for_each_held
  kSnapshot  // and restore
};

/// One call of a prefix tree, ready to be applied to a tree and to a model alike.
struct Op {
  OpKind kind = OpKind::kMatch;
  Slot slot = 0;
  Tier tier = Tier::device;
  std::optional<std::uint64_t> parent;
  std::vector<std::uint64_t> names;
  std::vector<std::uint64_t> labels;
  std::uint64_t namespace_seed = 0;
  std::uint64_t orphan_seed = 0;  // the namespace as it looks to one who does not know the parent
  std::optional<std::uint32_t> capacity;
  Nanoseconds now = 0;
  std::uint32_t which = 0;  // which pin, which way to restore: any number
};

/// The namespace under which a stored event's blocks are hashed: the parent's, where it is known.
template <typename Tree>
[[nodiscard]] std::uint64_t seed_of(const Tree& tree, const Op& op) {
  const bool orphan = op.parent && !tree.namespace_seed_of(op.slot, *op.parent);
  return orphan ? op.orphan_seed : op.namespace_seed;
}

}  // namespace kvroute::testing
