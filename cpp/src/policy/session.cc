#include "kvroute/policy/session.h"

#include <cmath>
#include <limits>
#include <utility>

#include "kvroute/base/error.h"
#include "kvroute/policy/qps.h"
#include "policy/rendezvous.h"
#include "policy/spec_reader.h"

namespace kvroute {

Session::Session(double bounded_load, std::unique_ptr<Policy> fallback)
    : bounded_load_(bounded_load),
      fallback_(fallback ? std::move(fallback) : std::make_unique<Qps>()) {}

std::unique_ptr<Policy> Session::from(detail::SpecReader& reader) {
  const double bound = reader.number("bounded_load", 0, 0, 1e6);
  if (bound > 0 && bound < 1) {
    throw InvalidArgument(reader.place_of("bounded_load") +
                          ": expected 0 (no bound) or at least 1, got " + std::to_string(bound));
  }
  return std::make_unique<Session>(bound, reader.policy("fallback", "qps"));
}

const Policy& Session::decider(const ScoreInput& input) const noexcept {
  return input.session ? *this : fallback_->decider(input);
}

// That a target may have with this one.
double Session::most_requests(const ScoreInput& input) const noexcept {
  if (bounded_load_ <= 0) return std::numeric_limits<double>::infinity();
  double requests = 1;
  for (const Slot slot : input.candidates) requests += input.loads[slot].requests;
  return std::ceil(bounded_load_ * requests / static_cast<double>(input.candidates.size()));
}

void Session::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const double most = most_requests(input);
  const std::uint64_t session = input.session.value_or(0);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    const Slot slot = input.candidates[i];
    const bool full = static_cast<double>(input.loads[slot].requests) + 1 > most;
    costs[i] = (full ? 2 : 1) - detail::rendezvous_weight(session, input.identities[slot]);
  }
}

std::vector<CostTerm> Session::terms(const ScoreInput& input, Slot slot) const {
  std::vector<CostTerm> terms{
      {"session_weight",
       detail::rendezvous_weight(input.session.value_or(0), input.identities[slot])},
      {"active_requests", static_cast<double>(input.loads[slot].requests)}};
  if (bounded_load_ > 0) terms.push_back({"most_requests", most_requests(input)});
  return terms;
}

std::size_t Session::pick(const ScoreInput& /*input*/, std::span<const double> costs,
                          PickState& state) const noexcept {
  return pick_least(costs, state.random);
}

}  // namespace kvroute
