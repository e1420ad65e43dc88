#pragma once

#include <memory>
#include <utility>

#include "kvroute/policy/least_requests.h"
#include "kvroute/policy/policy.h"

namespace kvroute {

/// Parameters of `CacheAware`; the defaults are those of the router's command line.
struct CacheAwareOptions {
  double cache_threshold = 0.3;  ///< share of the prompt that must be cached somewhere
  double balance_abs = 64;       ///< requests between the busiest and the idlest, and
  double balance_rel = 1.5;      ///< times the idlest: above both, load alone decides
};

/// SGLang's rule (sgl-model-gateway and vLLM Router, `cache_aware`, 2025):
///
///     1. most - least > balance_abs and most > balance_rel * least   -> least_requests
///     2. best > cache_threshold                                     -> cost = -share cached
///     3. otherwise                                                  -> least_requests
///
/// where `most` and `least` are requests of a candidate (this router's bookings) and `best` is the
/// greatest share of the prompt that a candidate's device holds. Equal shares go to the target with
/// the fewest requests, then evenly.
///
/// Where it differs: shares come from the exact index, where SGLang matches text in a tree of its
/// own decisions; a miss goes to the fewest requests instead of the smallest tree, which drew all
/// misses to a new or emptied worker (sglang #14305).
class CacheAware final : public Policy {
 public:
  explicit CacheAware(CacheAwareOptions options = {}, PickRule rule = {})
      : Policy(rule), options_(options) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "cache_aware"; }
  [[nodiscard]] const Policy& decider(const ScoreInput& input) const noexcept override;
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;
  [[nodiscard]] std::size_t pick(const ScoreInput& input, std::span<const double> costs,
                                 PickState& state) const noexcept override;

 private:
  CacheAwareOptions options_;
  LeastRequests by_load_;
};

/// Parameters of `Spill`; the defaults are SMG's.
struct SpillOptions {
  double balance_abs = 64;   ///< requests above the candidates' mean, and
  double balance_rel = 1.5;  ///< times the mean: above both, a target is hot
};

/// A gate for each request before another policy, `of` (SMG's per-request gate, model_gateway,
/// policies/cache_aware.rs, 2026): only a request whose own choice is overloaded goes elsewhere,
/// where a fleet-wide gate takes the cache away from all as soon as one target is busy.
///
///     hot   = requests > balance_rel * mean  and  requests > mean + balance_abs
///     spill = every candidate with the least cost of `of` is hot
///     cost  = infinite                      for a hot candidate
///           = that of `to`, if spilled, else that of `of`
///
/// `requests` is this router's bookings, `mean` theirs over the candidates, so that some candidate
/// is never hot. A spilled request's blocks are predicted for its target as any other's, so that a
/// hot prefix gets a second holder. `of` is `cache_aware` without its fleet-wide gate by default,
/// `to` `least_load`. The pick is that of `of`.
class Spill final : public Policy {
 public:
  Spill(SpillOptions options, std::unique_ptr<Policy> of, std::unique_ptr<Policy> to)
      : options_(options), of_(std::move(of)), to_(std::move(to)) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "spill"; }
  [[nodiscard]] bool needs_overlap() const noexcept override {
    return of_->needs_overlap() || to_->needs_overlap();
  }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;
  [[nodiscard]] std::size_t pick(const ScoreInput& input, std::span<const double> costs,
                                 PickState& state) const noexcept override;

 private:
  /// Requests above which a candidate is hot.
  [[nodiscard]] double most_requests(const ScoreInput& input) const noexcept;
  /// Whether all that cost the least by `of` are hot.
  [[nodiscard]] bool is_spilled(const ScoreInput& input, std::span<const double> costs,
                                double most_requests) const noexcept;

  SpillOptions options_;
  std::unique_ptr<Policy> of_;
  std::unique_ptr<Policy> to_;
};

}  // namespace kvroute
