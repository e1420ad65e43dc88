#pragma once

#include <memory>

#include "kvroute/policy/policy.h"

namespace kvroute {

/// A session stays where it is (vLLM production-stack, `session`):
///
///     cost = 1 - weight(session, target)        in (0, 1]
///          + 1 where the target is full, with a bound
///     full = requests + 1 > ceil(bounded_load * mean)
///
/// `weight` is a hash of session id and target's name and rank, uniform in [0, 1) (rendezvous
/// hashing: Thaler and Ravishankar, 1998). production-stack keeps a ring of hashes and changes it
/// to fit each request's endpoints, so that a retry without the failed one, or a second model,
/// moves nodes under everybody's feet. Rendezvous hashing keeps nothing: each request ranks the
/// candidates it has, so nothing is there to be changed by a retry, routers agree without talking,
/// a candidate that is missing moves its own sessions alone, each to the next in its own order, and
/// one that is added takes 1/n of each other's. It is even without virtual nodes. O(candidates) a
/// request where a ring takes O(log(virtual nodes)), which is nothing for up to 4,096 targets.
///
/// `bounded_load` (0: no bound; else at least 1): a full target is passed over for the next in the
/// session's order (bounded loads: Mirrokni, Thorup and Zadimoghaddam, 2018). `requests` is this
/// router's own bookings, `mean` theirs over the candidates with this request counted in; so
/// somebody is never full. Costs of two targets being equal is a chance of 2^-53; a request's
/// temperature is not looked at.
///
/// A request without a session goes to `fallback`, by default `qps`.
class Session final : public Policy {
 public:
  /// Without a `fallback`: `Qps`.
  explicit Session(double bounded_load = 0, std::unique_ptr<Policy> fallback = nullptr);
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "session"; }
  [[nodiscard]] const Policy& decider(const ScoreInput& input) const noexcept override;
  [[nodiscard]] bool needs_overlap() const noexcept override { return fallback_->needs_overlap(); }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;
  [[nodiscard]] std::size_t pick(const ScoreInput& input, std::span<const double> costs,
                                 PickState& state) const noexcept override;

 private:
  [[nodiscard]] double most_requests(const ScoreInput& input) const noexcept;

  double bounded_load_;
  std::unique_ptr<Policy> fallback_;
};

}  // namespace kvroute
