#pragma once

#include <memory>
#include <utility>

#include "kvroute/policy/policy.h"

namespace kvroute {

/// The fewest requests in flight:
///
///     cost = requests                                       this router's bookings there
///
/// Exact ties go to the target with the fewest tokens in use, then evenly. Engine reports are not
/// used. AIBrix calls it least-request, queueing theory "join the shortest queue".
class LeastRequests final : public Policy {
 public:
  explicit LeastRequests(PickRule rule = {}) : Policy(rule) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "least_requests"; }
  [[nodiscard]] bool needs_overlap() const noexcept override { return false; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;
  [[nodiscard]] std::size_t pick(const ScoreInput& input, std::span<const double> costs,
                                 PickState& state) const noexcept override;
};

/// The cheaper of two candidates that are drawn at random ("The Power of Two Choices in Randomized
/// Load Balancing", Mitzenmacher, 2001): almost as even as the cheapest of all, and without the
/// herd that follows a stale least. The cost is that of another policy, `of`; by default
/// `least_requests`. `sample` draws another number of candidates. A temperature takes all.
class PowerOfTwo final : public Policy {
 public:
  explicit PowerOfTwo(std::unique_ptr<Policy> of = std::make_unique<LeastRequests>(),
                      PickRule rule = {.temperature = 0, .sample = 2})
      : Policy(rule), of_(std::move(of)) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "power_of_two"; }
  [[nodiscard]] bool needs_overlap() const noexcept override { return of_->needs_overlap(); }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  std::unique_ptr<Policy> of_;
};

}  // namespace kvroute
