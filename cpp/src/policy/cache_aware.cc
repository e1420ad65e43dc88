#include "kvroute/policy/cache_aware.h"

#include <algorithm>
#include <limits>

#include "policy/costs_of.h"
#include "policy/spec_reader.h"
#include "policy/ties.h"

namespace kvroute {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double cached_share(const ScoreInput& input, Slot slot) noexcept {
  return static_cast<double>(input.cached_tokens(slot)) / static_cast<double>(input.num_tokens);
}

}  // namespace

std::unique_ptr<Policy> CacheAware::from(detail::SpecReader& reader) {
  const CacheAwareOptions absent;
  return std::make_unique<CacheAware>(
      CacheAwareOptions{
          .cache_threshold = reader.number("cache_threshold", absent.cache_threshold, 0, 1),
          .balance_abs = reader.number("balance_abs", absent.balance_abs, 0, kInfinity),
          .balance_rel = reader.number("balance_rel", absent.balance_rel, 1, kInfinity)},
      reader.pick_rule());
}

const Policy& CacheAware::decider(const ScoreInput& input) const noexcept {
  double most = 0;
  double least = kInfinity;
  double best = 0;
  for (const Slot slot : input.candidates) {
    const double requests = input.loads[slot].requests;
    most = std::max(most, requests);
    least = std::min(least, requests);
    best = std::max(best, cached_share(input, slot));
  }
  // The relative margin as a quotient would divide by zero.
  const bool imbalanced = most - least > options_.balance_abs &&
                          (least == 0 ? most > 0 && options_.balance_rel < kInfinity
                                      : most > options_.balance_rel * least);
  if (imbalanced || best <= options_.cache_threshold) return by_load_;
  return *this;
}

void CacheAware::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = -cached_share(input, input.candidates[i]);
  }
}

std::vector<CostTerm> CacheAware::terms(const ScoreInput& input, Slot slot) const {
  return {{"cached_share", cached_share(input, slot)},
          {"cached_tokens", static_cast<double>(input.cached_tokens(slot))},
          {"requests", static_cast<double>(input.loads[slot].requests)}};
}

std::size_t CacheAware::pick(const ScoreInput& input, std::span<const double> costs,
                             PickState& state) const noexcept {
  if (!detail::takes_the_least(rule(), input)) return Policy::pick(input, costs, state);
  return detail::pick_least_then(costs, state.random, [&](std::size_t at) {
    return input.loads[input.candidates[at]].requests;
  });
}

std::unique_ptr<Policy> Spill::from(detail::SpecReader& reader) {
  const SpillOptions absent;
  const SpillOptions options{
      .balance_abs = reader.number("balance_abs", absent.balance_abs, 0, kInfinity),
      .balance_rel = reader.number("balance_rel", absent.balance_rel, 1, kInfinity)};
  auto of = detail::policy_with_costs(reader, "of",
                                      PolicySpec("cache_aware", {{"balance_abs", {kInfinity}}}));
  auto to = detail::policy_with_costs(reader, "to", "least_load");
  return std::make_unique<Spill>(options, std::move(of), std::move(to));
}

double Spill::most_requests(const ScoreInput& input) const noexcept {
  double mean = 0;
  for (const Slot slot : input.candidates) mean += input.loads[slot].requests;
  mean /= static_cast<double>(input.candidates.size());
  return std::max(mean == 0 ? 0 : options_.balance_rel * mean, mean + options_.balance_abs);
}

bool Spill::is_spilled(const ScoreInput& input, std::span<const double> costs,
                       double most_requests) const noexcept {
  const double least = *std::ranges::min_element(costs);
  for (std::size_t i = 0; i < costs.size(); ++i) {
    if (costs[i] <= least && input.loads[input.candidates[i]].requests <= most_requests) {
      return false;
    }
  }
  return true;
}

void Spill::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const double most = most_requests(input);
  detail::costs_of(*of_, input, costs);
  if (is_spilled(input, costs, most)) detail::costs_of(*to_, input, costs);
  for (std::size_t i = 0; i < costs.size(); ++i) {
    if (input.loads[input.candidates[i]].requests > most) costs[i] = kInfinity;
  }
}

std::vector<CostTerm> Spill::terms(const ScoreInput& input, Slot slot) const {
  const double most = most_requests(input);
  const double requests = input.loads[slot].requests;
  std::vector<double> usual(input.candidates.size());
  detail::costs_of(*of_, input, usual);
  const bool spilled = is_spilled(input, usual, most);
  std::vector<CostTerm> terms = (spilled ? *to_ : *of_).decider(input).terms(input, slot);
  terms.push_back({"spilled", spilled ? 1.0 : 0.0});
  terms.push_back({"hot", requests > most ? 1.0 : 0.0});
  terms.push_back({"booked_requests", requests});
  terms.push_back({"most_requests", most});
  return terms;
}

std::size_t Spill::pick(const ScoreInput& input, std::span<const double> costs,
                        PickState& state) const noexcept {
  const Policy& policy = of_->decider(input);
  if (!policy.has_cost()) return Policy::pick(input, costs, state);
  return policy.pick(input, costs, state);
}

}  // namespace kvroute
