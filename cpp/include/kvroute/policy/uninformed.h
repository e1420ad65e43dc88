#pragma once

#include "kvroute/policy/policy.h"

namespace kvroute {

/// Each candidate in turn: the one whose last turn is longest ago; first those that have had none,
/// in the order of worker names and ranks. While the candidates stay the same, that order repeats.
///
/// Candidates may change from one request to the next (another model, pool or label). Whoever is
/// passed over for another one is not passed over for it again before its own turn: so a target has
/// its turn after at most as many requests that it could serve as there are other targets, and
/// those that could serve the same requests have had as many turns as each other, give or take one.
/// A target that comes back, or comes anew, has one turn, and no more for those that it missed.
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
