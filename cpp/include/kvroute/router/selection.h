#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/policy/policy.h"

namespace kvroute {

/// Where a request goes.
struct Selection {
  TargetId target;
  std::uint64_t cached_tokens = 0;   ///< leading tokens whose blocks are reachable on its device
  std::uint64_t prefill_tokens = 0;  ///< tokens it must compute: all others
  std::optional<double> cost;        ///< lower is better; absent where the policy has none
};

/// One target's part in a decision.
struct TargetExplanation {
  TargetId target;
  bool eligible = true;
  std::string reason;  ///< why it is not eligible
  std::uint64_t cached_tokens = 0;
  std::optional<double> cost;
  std::vector<CostTerm> terms;
};

/// A decision with everything it rests on.
struct Explanation {
  std::string_view policy;
  std::uint64_t num_tokens = 0;
  std::vector<TargetExplanation> targets;  ///< eligible ones first, by cost

  /// A table for people: one line a target, one column a term.
  [[nodiscard]] std::string text() const;
};

}  // namespace kvroute
