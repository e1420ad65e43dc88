#pragma once

#include "kvroute/policy/policy.h"

namespace kvroute {

/// What policies have in common that go where most of the prompt is cached:
///
///     cost = num_tokens - cached tokens on the device              tokens; ties at random
class MostCached : public Policy {
 public:
  using Policy::Policy;
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;
};

}  // namespace kvroute
