#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvroute/policy/policy.h"

namespace kvroute {

namespace detail {
struct NamedScore;
}

/// A weighted sum of scores (llm-d-router, scheduling/scorer, 2026), each from 0 to 1 and higher is
/// better:
///
///     cost = -sum(weight * score)
///
/// `terms` names scores and their weights, 0 or more; by default those of llm-d's chart:
/// {"prefix": 3, "queue": 2, "kv_usage": 2}.
///
/// | score | of a candidate |
/// | --- | --- |
/// | prefix | share of the prompt's full blocks on its device |
/// | queue | waiting requests: 1 for the fewest, 0 for the most |
/// | kv_usage | 1 - reported KV usage |
/// | running | reported running: 1 for the fewest, 0 for the most |
/// | active_requests | bookings: 1 for none, 0 for the most |
/// | token_load | 1 - tokens in use, with the request's new ones, of 4 Mi |
/// | load | 0.5 with an empty queue, 0 at 128 waiting |
/// | session | 1 where the session belongs (by hash), 0 elsewhere and without one |
/// | no_hit_lru | nobody has a hit: 1 for the least uncached tokens of late; otherwise 0.5 |
///
/// A report counts for 60 seconds. Waiting are those reported and those chosen since then that have
/// had no first token (`TargetLoad::unreported`); without a report, the mean of those who report,
/// in proportion to what the candidate was sent of late (see `Standalone`). What else is not known
/// of a candidate counts as the mean of those of whom it is. Ties at random.
///
/// Where it differs: llm-d leaves an endpoint without metrics unscored, as if it were the worst,
/// and does not count what it sent since a scrape; its token-load counts tokens in flight instead
/// of those in use, its session affinity remembers the first choice, and its no-hit-lru ranks by
/// the order of the last cold requests.
class Weighted final : public Policy {
 public:
  using Terms = std::vector<std::pair<std::string, double>>;
  static Terms default_terms() { return {{"prefix", 3}, {"queue", 2}, {"kv_usage", 2}}; }

  /// `place` is where the terms stand, for errors.
  /// \throws InvalidArgument for a score that does not exist.
  explicit Weighted(const Terms& terms = default_terms(), PickRule rule = {},
                    std::string_view place = "terms");
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "weighted"; }
  [[nodiscard]] bool needs_overlap() const noexcept override;
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  std::vector<std::pair<const detail::NamedScore*, double>> terms_;
};

}  // namespace kvroute
