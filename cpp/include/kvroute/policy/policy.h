#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"
#include "kvroute/base/random.h"
#include "kvroute/load/target_load.h"

namespace kvroute {

/// What is known of one request and of everyone who could serve it: all that a policy may look at.
///
/// Spans named "by slot" are indexed by a target's slot and reach at least to the greatest
/// candidate. They are views: valid during one decision.
struct ScoreInput {
  std::uint64_t num_tokens = 0;                ///< of the prompt; at least 1
  std::uint32_t block_size = 1;                ///< the unit of costs that are counted in blocks
  std::span<const Slot> candidates;            ///< who may be chosen, ascending, at least one
  std::span<const std::uint32_t> held;         ///< by slot: leading blocks reachable on the target
  std::span<const std::uint32_t> active;       ///< by slot: leading blocks that its bookings use
  std::span<const std::uint32_t> block_sizes;  ///< by slot: tokens per block of the target
  std::span<const TargetLoad> loads;           ///< by slot
  Nanoseconds now = 0;                         ///< of the clock that reports carry

  /// The prompt's tokens that the target need not compute.
  [[nodiscard]] std::uint64_t cached_tokens(Slot slot) const noexcept {
    const std::uint64_t tokens = std::uint64_t{held[slot]} * block_sizes[slot];
    return tokens < num_tokens ? tokens : num_tokens;
  }
};

/// One addend of a cost, for people.
struct CostTerm {
  std::string_view name;
  double value = 0;
};

/// What a policy may change by choosing. One per router.
struct PickState {
  explicit PickState(std::uint64_t seed) : random(seed) {}

  Random random;                     ///< breaks ties
  std::optional<Slot> last_in_turn;  ///< round robin's last choice
};

/// How a target is chosen among candidates: scores, then a pick. A policy has no state of its own
/// and is a pure function of its input (and, for picks, of `PickState`). Thread-safe.
class Policy {
 public:
  Policy() = default;
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;
  virtual ~Policy() = default;

  [[nodiscard]] virtual std::string_view name() const noexcept = 0;

  /// False where candidates are chosen without a cost; then `score` leaves its output alone.
  [[nodiscard]] virtual bool has_cost() const noexcept { return true; }

  /// Cost of each candidate, lower is better, to `costs` (one per candidate). O(candidates).
  virtual void score(const ScoreInput& input, std::span<double> costs) const noexcept = 0;

  /// Every term of one candidate's cost.
  [[nodiscard]] virtual std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const = 0;

  /// Position of the chosen candidate. By default the least cost, ties spread evenly.
  [[nodiscard]] virtual std::size_t pick(const ScoreInput& input, std::span<const double> costs,
                                         PickState& state) const noexcept;
};

/// Position of the least cost; exact ties are spread evenly by `random`, which is asked only when
/// there is one. `costs` must not be empty.
[[nodiscard]] std::size_t pick_least(std::span<const double> costs, Random& random) noexcept;

/// The policy of that name: "kv_cost", "standalone", "round_robin" (or "roundrobin"), "random".
/// \throws InvalidArgument for any other, naming those there are.
[[nodiscard]] std::unique_ptr<Policy> make_policy(std::string_view name);

/// Names that `make_policy` takes, without aliases.
[[nodiscard]] std::span<const std::string_view> policy_names() noexcept;

}  // namespace kvroute
