#include "kvroute/policy/policy.h"

#include <algorithm>
#include <array>

#include "kvroute/base/error.h"
#include "kvroute/policy/kv_cost.h"
#include "kvroute/policy/standalone.h"
#include "kvroute/policy/uninformed.h"

namespace kvroute {
namespace {

constexpr std::array<std::string_view, 4> kNames{"kv_cost", "standalone", "round_robin", "random"};

}  // namespace

std::size_t Policy::pick(const ScoreInput& /*input*/, std::span<const double> costs,
                         PickState& state) const noexcept {
  return pick_least(costs, state.random);
}

std::size_t pick_least(std::span<const double> costs, Random& random) noexcept {
  const double least = *std::min_element(costs.begin(), costs.end());
  const auto ties = static_cast<std::uint64_t>(std::count(costs.begin(), costs.end(), least));
  std::uint64_t skip = ties > 1 ? random.below(ties) : 0;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    if (costs[i] == least && skip-- == 0) return i;
  }
  return 0;
}

std::unique_ptr<Policy> make_policy(std::string_view name) {
  if (name == "kv_cost") return std::make_unique<KvCost>();
  if (name == "standalone") return std::make_unique<Standalone>();
  if (name == "round_robin" || name == "roundrobin") return std::make_unique<RoundRobin>();
  if (name == "random") return std::make_unique<RandomChoice>();
  std::string message = "policy: expected one of";
  for (const auto known : kNames) message += " '" + std::string(known) + "'";
  throw InvalidArgument(message + ", got '" + std::string(name) + "'");
}

std::span<const std::string_view> policy_names() noexcept { return kNames; }

}  // namespace kvroute
