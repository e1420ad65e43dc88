#include "kvroute/policy/loadaware.h"

#include <algorithm>
#include <utility>

#include "kvroute/policy/session.h"
#include "policy/longest_match.h"
#include "policy/spec_reader.h"

namespace kvroute {
namespace {

double mean_requests(const ScoreInput& input) noexcept {
  double requests = 0;
  for (const Slot slot : input.candidates) requests += input.loads[slot].requests;
  return requests / static_cast<double>(input.candidates.size());
}

}  // namespace

LoadAware::LoadAware(double beta, std::unique_ptr<Policy> fallback, PickRule rule)
    : Policy(rule),
      beta_(beta),
      fallback_(fallback ? std::move(fallback) : std::make_unique<Session>()) {}

std::unique_ptr<Policy> LoadAware::from(detail::SpecReader& reader) {
  const double beta = reader.number("beta", 1, 0, 1e6);
  auto fallback = reader.policy("fallback", "session");
  return std::make_unique<LoadAware>(beta, std::move(fallback), reader.pick_rule());
}

const Policy& LoadAware::decider(const ScoreInput& input) const noexcept {
  return detail::longest_match(input) > 0 ? *this : fallback_->decider(input);
}

LoadAware::Parts LoadAware::parts(const ScoreInput& input, Slot slot, double mean) noexcept {
  return {static_cast<double>(input.cached_tokens(slot)) / static_cast<double>(input.num_tokens),
          (static_cast<double>(input.loads[slot].requests) - mean) / std::max(1.0, mean)};
}

void LoadAware::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const double mean = mean_requests(input);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    const Parts p = parts(input, input.candidates[i], mean);
    costs[i] = beta_ * p.load - p.match;
  }
}

std::vector<CostTerm> LoadAware::terms(const ScoreInput& input, Slot slot) const {
  const double mean = mean_requests(input);
  const Parts p = parts(input, slot, mean);
  return {{"match_share", p.match},
          {"load_above_mean", p.load},
          {"active_requests", static_cast<double>(input.loads[slot].requests)},
          {"mean_requests", mean}};
}

}  // namespace kvroute
