#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kvroute/policy/pick.h"
#include "kvroute/policy/policy_spec.h"
#include "kvroute/policy/score_input.h"

namespace kvroute {

namespace detail {
class SpecReader;
}

/// One addend of a cost, or a number that it rests on; for people. The name is a constant.
struct CostTerm {
  std::string_view name;
  double value = 0;
};

/// How a target is chosen among candidates: scores, then a pick. A policy keeps nothing from one
/// decision to the next: it is a pure function of its input and, for picks, of `PickState`. What is
/// absent or stale neither wins nor punishes. Thread-safe.
class Policy {
 public:
  explicit Policy(PickRule rule = {}) : rule_(rule) {}
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;
  virtual ~Policy() = default;

  /// As `make_policy` knows it.
  [[nodiscard]] virtual std::string_view name() const noexcept = 0;

  /// The policy that decides this request: itself, or one that it defers to by the input (a tier, a
  /// fallback). Never of another input than that of the decision.
  [[nodiscard]] virtual const Policy& decider(const ScoreInput& input) const noexcept;

  /// False where candidates are chosen without a cost; then `score` leaves its output alone.
  /// Asked of deciders.
  [[nodiscard]] virtual bool has_cost() const noexcept { return true; }

  /// Whether it looks at `held` or `active`: if not, nobody need hash or match the prompt.
  [[nodiscard]] virtual bool needs_overlap() const noexcept { return true; }

  /// Cost of each candidate, lower is better, to `costs` (one per candidate); infinite for one that
  /// is to be chosen only if all are. Asked of deciders. O(candidates).
  virtual void score(const ScoreInput& input, std::span<double> costs) const noexcept = 0;

  /// Every term of one candidate's cost. Asked of deciders.
  [[nodiscard]] virtual std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const = 0;

  /// Position of the chosen candidate; by default by the rule, under the request's temperature if
  /// it names one. Asked of deciders.
  [[nodiscard]] virtual std::size_t pick(const ScoreInput& input, std::span<const double> costs,
                                         PickState& state) const noexcept;

 protected:
  [[nodiscard]] const PickRule& rule() const noexcept { return rule_; }

 private:
  PickRule rule_;
};

/// \throws InvalidArgument for an unknown name, an unknown parameter, or one of a wrong type or out
/// of range; the message names the parameter's place, what was expected and what came.
[[nodiscard]] std::unique_ptr<Policy> make_policy(const PolicySpec& spec);

/// Names that `make_policy` takes, without aliases, in the order of the documentation.
[[nodiscard]] std::span<const std::string_view> policy_names() noexcept;

}  // namespace kvroute
