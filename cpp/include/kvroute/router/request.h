#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "kvroute/base/phase.h"
#include "kvroute/hash/block_hash.h"
#include "kvroute/policy/score_input.h"
#include "kvroute/router/allowed_set.h"
#include "kvroute/router/features.h"
#include "kvroute/router/worker_spec.h"

namespace kvroute {

/// A label with one value: "zone" is "a".
struct LabelRef {
  std::string_view name;
  std::string_view value;
  double weight = 1;  ///< where it is preferred, not required
};

/// Data-parallel ranks from the first to the last.
struct RankRange {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};

/// One request, as views that live during one call. Either `token_ids`, or `local_hashes` of the
/// router's block size with `num_tokens`.
struct Request {
  std::span<const std::uint32_t> token_ids;
  std::span<const std::uint64_t> local_hashes;
  std::uint64_t num_tokens = 0;  ///< with `local_hashes`: the prompt's length
  bool by_hashes = false;
  Namespace name;

  /// Whose policy decides, and what is booked.
  Phase phase = Phase::kWhole;

  // What policies look at.
  std::string_view session_id;  ///< empty: none
  std::optional<std::uint32_t> expected_output_tokens;
  RequestOverrides overrides;

  // Who may be chosen. Filters apply together.
  const std::vector<WorkerRef>* allowed = nullptr;  ///< null: every worker
  const AllowedSet* allowed_set = nullptr;          ///< the same, looked up before
  std::optional<WorkerRef> pinned;                  ///< this one alone
  std::optional<RankRange> dp_ranks;
  std::span<const LabelRef> labels;  ///< required: those who have all of them
  /// Who has them is preferred by policies that look at it (ScoreInput::preferences).
  std::span<const LabelRef> preferred_labels;
  /// Those whose label "model" is this, or who have no such label. Empty: any.
  std::string_view model;

  /// How many further targets the choice shall name (Selection::alternatives), at most kMaxTargets.
  std::uint32_t alternatives = 0;

  // Costs in place of the policy's, and whether making them failed (which is counted).
  const GivenCosts* given = nullptr;
  bool scoring_failed = false;
};

/// One request in two legs, of which each may go to other targets. Both have the tokens, or hashes,
/// and the namespace of `prefill`. What is only for policies (session, overrides, preferences,
/// costs) is not looked at, nor are alternatives and the phases: they go by the names.
struct PairRequest {
  Request prefill;
  Request decode;
};

}  // namespace kvroute
