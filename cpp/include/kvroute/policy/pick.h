#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kvroute/base/random.h"
#include "kvroute/policy/score_input.h"

namespace kvroute {

class Policy;

/// What policies may change by choosing. One for each policy that a router holds.
struct PickState {
  explicit PickState(std::uint64_t seed) : random(seed) {}

  /// A target that had its turn. Whether it is still the same in that slot its identity tells.
  struct Turn {
    Slot slot = 0;
    std::uint64_t identity = 0;
    std::uint32_t place = 0;  // in the order of then
  };
  /// The target that this policy chose last, where it gives each its turn.
  [[nodiscard]] std::optional<Turn> last_in_turn(const Policy& policy) const noexcept;
  void set_last_in_turn(const Policy& policy, const Turn& turn) noexcept;

  Random random;
  std::vector<std::pair<const Policy*, Turn>> turns;  // policies inside a policy: few
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
