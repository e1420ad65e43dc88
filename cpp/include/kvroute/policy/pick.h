#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kvroute/base/random.h"
#include "kvroute/policy/score_input.h"

namespace kvroute {

class Policy;

/// When each target was last chosen by a policy that takes them in turn. By slot; another target in
/// a slot, which its identity tells, has not been chosen yet. As large as the greatest slot.
class Turns {
 public:
  /// Number of the target's last turn among all; 0: none.
  [[nodiscard]] std::uint64_t last(Slot slot, std::uint64_t identity) const noexcept {
    return slot < turns_.size() && turns_[slot].identity == identity ? turns_[slot].number : 0;
  }
  void take(Slot slot, std::uint64_t identity) {
    if (slot >= turns_.size()) turns_.resize(std::size_t{slot} + 1);
    turns_[slot] = {.identity = identity, .number = ++taken_};
  }

 private:
  struct Turn {
    std::uint64_t identity = 0;
    std::uint64_t number = 0;
  };
  std::vector<Turn> turns_;  // by slot
  std::uint64_t taken_ = 0;
};

/// What policies may change by choosing. One for each phase of a router.
struct PickState {
  explicit PickState(std::uint64_t seed) : random(seed) {}

  /// Those of one policy, which takes targets in turn.
  [[nodiscard]] Turns& turns_of(const Policy& policy);

  Random random;
  std::vector<std::pair<const Policy*, Turns>> turns;  // policies inside a policy: few
};

/// How one of the candidates is taken by their costs.
struct PickRule {
  /// 0: the least cost. Above: candidate i with a probability proportional to
  /// exp(-(c_i - c_min) / ((c_max - c_min) * temperature)), uniform where all costs are equal
  /// (Dynamo, lib/kv-router, v1.6).
  double temperature = 0;
  /// 0: of all candidates. k > 0: of k of them, drawn at random without repetition ("power of k
  /// choices": Mitzenmacher, 2001), among those of finite cost where there are any. Not looked at
  /// above temperature 0.
  std::uint32_t sample = 0;
};

/// Position of the least cost; exact ties are spread evenly by `random`, which is asked only when
/// there is one. `costs` must not be empty. An infinite cost is chosen only if all are; a NaN
/// counts as infinite.
[[nodiscard]] std::size_t pick_least(std::span<const double> costs, Random& random) noexcept;

/// Position of the chosen one. `costs` must not be empty. O(candidates); O(1) with a sample
/// of two finite costs.
[[nodiscard]] std::size_t pick_by(const PickRule& rule, std::span<const double> costs,
                                  Random& random) noexcept;

}  // namespace kvroute
