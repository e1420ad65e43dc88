#pragma once

#include <memory>

#include "kvroute/policy/policy.h"

namespace kvroute {

/// vLLM production-stack's `loadaware` (#1035); its score is negated, so that lower is better:
///
///     score = min(matched, num_tokens)/num_tokens - beta * (requests - mean)/max(1, mean)
///
/// `matched` is the target's cached tokens on its device, `requests` this router's own bookings
/// there, `mean` theirs over the candidates. `beta` (1) is the share of the prompt that a load of
/// twice the mean outweighs. Where nobody holds anything, `fallback` decides, by default `session`,
/// which without a session id is `qps`. Ties at random (there: the first by URL).
class LoadAware final : public Policy {
 public:
  /// Without a `fallback`: `Session`.
  explicit LoadAware(double beta = 1, std::unique_ptr<Policy> fallback = nullptr,
                     PickRule rule = {});
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "loadaware"; }
  [[nodiscard]] const Policy& decider(const ScoreInput& input) const noexcept override;
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  struct Parts {
    double match = 0;  // share of the prompt
    double load = 0;   // requests above the mean, by it
  };

  [[nodiscard]] static Parts parts(const ScoreInput& input, Slot slot, double mean) noexcept;

  double beta_;
  std::unique_ptr<Policy> fallback_;
};

}  // namespace kvroute
