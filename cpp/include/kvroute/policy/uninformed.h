#pragma once

#include "kvroute/policy/policy.h"

namespace kvroute {

/// Each candidate in turn, in the order of worker names and ranks: the first one after the last
/// chosen. A candidate that is missing for a while does not disturb the others' turn, nor does
/// another target in the slot of the last chosen one.
class RoundRobin final : public Policy {
 public:
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);
  [[nodiscard]] std::string_view name() const noexcept override { return "round_robin"; }
  [[nodiscard]] bool has_cost() const noexcept override { return false; }
  [[nodiscard]] bool needs_overlap() const noexcept override { return false; }
  void score(const ScoreInput&, std::span<double>) const noexcept override {}
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput&, Slot) const override { return {}; }
  [[nodiscard]] std::size_t pick(const ScoreInput& input, std::span<const double> costs,
                                 PickState& state) const noexcept override;
};

/// Any candidate, each as likely.
class RandomChoice final : public Policy {
 public:
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);
  [[nodiscard]] std::string_view name() const noexcept override { return "random"; }
  [[nodiscard]] bool has_cost() const noexcept override { return false; }
  [[nodiscard]] bool needs_overlap() const noexcept override { return false; }
  void score(const ScoreInput&, std::span<double>) const noexcept override {}
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput&, Slot) const override { return {}; }
  [[nodiscard]] std::size_t pick(const ScoreInput& input, std::span<const double> costs,
                                 PickState& state) const noexcept override;
};

}  // namespace kvroute
