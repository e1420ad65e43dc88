#pragma once

#include <span>
#include <string_view>

#include "kvroute/policy/score_input.h"

namespace kvroute::detail {

/// Adds `weight` times the score of each candidate, 0 to 1 and higher is better, to `sums`, which
/// has one element per candidate. Pure; O(candidates); nothing is allocated. What is not known of a
/// candidate counts as the mean of those of whom it is; where of nobody, all score alike. Queues
/// are taken from `WaitingRequests`.
using Score = void (*)(const ScoreInput& input, double weight, std::span<double> sums) noexcept;

/// Share of the prompt's full blocks that the device holds.
void add_prefix(const ScoreInput& input, double weight, std::span<double> sums) noexcept;

/// 1 for the shortest queue, 0 for the longest, in between in proportion; 1 where all are equal.
/// A queue is what `WaitingRequests` counts.
void add_queue(const ScoreInput& input, double weight, std::span<double> sums) noexcept;

/// The same of the requests in the engine's running batch, as reported.
void add_running(const ScoreInput& input, double weight, std::span<double> sums) noexcept;

/// 1 less the share of its KV blocks that the engine reports in use.
void add_kv_usage(const ScoreInput& input, double weight, std::span<double> sums) noexcept;

/// Of this router's bookings: 1 without any, 0 for the candidate with the most, in proportion.
void add_active_requests(const ScoreInput& input, double weight, std::span<double> sums) noexcept;

/// 1 less the tokens in use there, with this request's new ones, as a share of 4,194,304 (llm-d's
/// 128 requests of 32 Ki tokens); at least 0.
void add_token_load(const ScoreInput& input, double weight, std::span<double> sums) noexcept;

/// 0.5 with an empty queue, falling to 0 at 128 requests. A queue is as in `add_queue`.
void add_load(const ScoreInput& input, double weight, std::span<double> sums) noexcept;

/// 1 for the candidate that the request's session belongs to, by a hash of both; 0 for all others,
/// and for a request without a session.
void add_session(const ScoreInput& input, double weight, std::span<double> sums) noexcept;

/// Spreads requests that nobody has cached anything of: 1 for the candidate with the least uncached
/// tokens of late (a sum that fades, see TargetLoad::recent_tokens), 0 for that with the most, in
/// proportion; 0.5 for all where somebody has cached something.
void add_no_hit_lru(const ScoreInput& input, double weight, std::span<double> sums) noexcept;

struct NamedScore {
  std::string_view name;
  Score add;
  bool needs_overlap;
};

/// All of them, by the names that `weighted` knows.
[[nodiscard]] std::span<const NamedScore> named_scores() noexcept;

}  // namespace kvroute::detail
