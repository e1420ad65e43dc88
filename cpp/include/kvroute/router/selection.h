#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/policy/policy.h"

namespace kvroute {

/// `Selection::rule` where the caller gave the costs.
inline constexpr std::string_view kGivenRule = "given";

/// Where a request goes.
struct Selection {
  TargetId target;
  /// Leading tokens whose blocks are reachable on its device. 0 by `Router::select` under a policy
  /// that does not look at the prompt: they are not looked for.
  std::uint64_t cached_tokens = 0;
  std::uint64_t prefill_tokens = 0;  ///< tokens it must compute: all others
  std::optional<double> cost;        ///< lower is better; absent where the policy has none
  std::string_view rule;             ///< name of the policy that decided: a constant
  /// Where it might go instead: as many as the request asked for, or there are, of the others who
  /// were eligible. The best first: by the cost of the policy that decided, infinite ones last. Of
  /// equal costs, and where the policy has none, by the tokens of KV blocks that bookings use; of
  /// equals in that, in the order of slots, from the chosen one on around. Naming them changes no
  /// choice, nor the generator.
  std::vector<TargetId> alternatives;
};

/// `Selection::rule` of the legs of a pair.
inline constexpr std::string_view kJointRule = "joint";

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
  std::string_view policy;  ///< the configured one; a constant
  std::string_view rule;    ///< the one that decides this request; empty where nobody is eligible
  std::uint64_t num_tokens = 0;
  /// Eligible ones first, the best of them first: ordered as `Selection::alternatives`, but that
  /// the order of slots is that from the first on.
  std::vector<TargetExplanation> targets;

  /// A table for people: one line a target, one column a term.
  [[nodiscard]] std::string text() const;
};

/// A decision on a pair of targets.
struct PairExplanation {
  TargetId prefill_target;
  TargetId decode_target;
  Explanation prefill;
  Explanation decode;
};

}  // namespace kvroute
