#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "kvroute/policy/pair_choice.h"
#include "kvroute/policy/policy.h"

namespace kvroute::detail {

/// One half of a pair that was chosen, as a policy: what each candidate would cost together with
/// the target of the other half. For explanations and the log of decisions.
class PairLeg final : public Policy {
 public:
  enum class Half : std::uint8_t { kPrefill, kDecode };

  /// Chooses the `half` beside `other`. `places` by slot.
  PairLeg(Half half, Slot other, const PairCosts& costs,
          std::shared_ptr<const std::vector<Place>> places)
      : half_(half), other_(other), costs_(costs), places_(std::move(places)) {}

  [[nodiscard]] std::string_view name() const noexcept override { return "joint"; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  [[nodiscard]] PairSeconds seconds(const ScoreInput& input, Slot slot) const noexcept;

  Half half_;
  Slot other_;
  PairCosts costs_;
  std::shared_ptr<const std::vector<Place>> places_;
};

}  // namespace kvroute::detail
