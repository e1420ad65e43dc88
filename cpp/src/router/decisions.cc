// Choosing: Router::Impl's fast side.

#include <span>
#include <utility>
#include <vector>

#include "router/ranking.h"
#include "router/router_impl.h"

namespace kvroute {

using detail::Decision;

void Router::Impl::expire(Nanoseconds now) const {
  indexes_.for_each([now](std::uint32_t /*block_size*/, PrefixTree& tree) { tree.expire(now); });
}

// Before load_mutex_ is taken.
Router::Impl::LogNote Router::Impl::log_note() const {
  return {.roster = log_.is_on() ? roster_.of(targets_) : nullptr, .request_id = {}};
}

// Under load_mutex_. \throws NoEligibleWorker, with nothing changed
Router::Impl::Pick Router::Impl::pick(Decision& decision, const Request& request,
                                      const LogNote& note) {
  detail::Eligibility& eligibility = decision.eligibility();
  if (options_.overload.any()) {
    eligibility.drop_overloaded(options_.overload, input_of(decision, request));
  }
  eligibility.require_somebody(request, targets_);
  const ScoreInput input = input_of(decision, request);
  const bool is_given = request.given != nullptr && decision.take_given(*request.given, targets_);
  const std::span<double> costs = decision.costs();
  PickState& state = pick_states_[deciding_phase(request)];
  Pick pick;
  if (is_given) {
    PickRule rule = request.given->rule;
    rule.temperature = request.overrides.temperature.value_or(rule.temperature);
    pick.position = pick_by(rule, costs, state.random);
  } else {
    pick.decider = &policy_of(request)->decider(input);
    pick.decider->score(input, costs);
    pick.position = pick.decider->pick(input, costs, state);
    if (request.given != nullptr || request.scoring_failed) ++policy_fallbacks_;
  }
  const Slot slot = input.candidates[pick.position];
  if (log_.is_on()) {
    log_.record(input, load_.revisions(), policy_of(request), note.roster,
                {.chosen = slot,
                 .request_id = note.request_id,
                 .excluded = eligibility.excluded(),
                 .given = is_given ? std::span<const double>(costs) : std::span<const double>()});
  }
  load_.note_pick(slot, input.uncached_tokens(slot), input.now);
  ++selections_;
  return pick;
}

ScoreInput Router::Impl::input_of(const Decision& decision, const Request& request) const {
  return decision.input(request, options_.block_size, targets_, &load_, now());
}

std::vector<TargetId> Router::Impl::targets_at(const ScoreInput& input,
                                               std::span<const std::size_t> positions) const {
  std::vector<TargetId> targets;
  targets.reserve(positions.size());
  for (const std::size_t position : positions) {
    targets.push_back(targets_.target(input.candidates[position]));
  }
  return targets;
}

Selection Router::Impl::selection(Decision& decision, const Request& request, Pick pick) const {
  const ScoreInput input = input_of(decision, request);
  const Slot slot = input.candidates[pick.position];
  const std::uint64_t cached = input.cached_tokens(slot);
  Selection chosen{.target = targets_.target(slot),
                   .cached_tokens = cached,
                   .prefill_tokens = input.num_tokens - cached,
                   .cost = std::nullopt,
                   .rule = pick.decider == nullptr ? kGivenRule : pick.decider->name(),
                   .alternatives = {}};
  const bool has_cost = pick.decider == nullptr || pick.decider->has_cost();
  if (has_cost) chosen.cost = decision.costs()[pick.position];
  if (request.alternatives > 0) {
    const std::span<const double> costs = has_cost ? decision.costs() : std::span<const double>();
    const auto others = detail::best_first(input, costs, request.alternatives, pick.position);
    chosen.alternatives = targets_at(input, others);
  }
  return chosen;
}

Selection Router::Impl::select(const Request& request) {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  Decision& decision = Decision::of_this_thread();
  decision.begin(request, options_.block_size);
  decision.find_eligible(request, targets_, log_.is_on());
  decision.eligibility().require_somebody(request, targets_);
  if (policy_of(request)->needs_overlap() || request.given != nullptr) {
    decision.hash(request, options_.block_size, indexes_);
    expire(now());
  }
  decision.match(targets_, indexes_);
  const LogNote note = log_note();
  const std::lock_guard load_lock(load_mutex_);
  if (end_expired()) decision.match(targets_, indexes_);
  const Pick picked = pick(decision, request, note);
  return selection(decision, request, picked);
}

std::vector<std::pair<TargetId, std::uint64_t>> Router::Impl::overlaps(const Request& request,
                                                                       Tier tier) const {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  Decision& decision = Decision::of_this_thread();
  decision.begin(request, options_.block_size);
  decision.hash(request, options_.block_size, indexes_);
  expire(now());
  decision.match(targets_, indexes_);
  const ScoreInput input = decision.input(request, options_.block_size, targets_, nullptr, now());
  std::vector<std::pair<TargetId, std::uint64_t>> overlaps;
  for (const Slot slot : targets_.listed()) {
    const std::uint64_t cached = input.cached_tokens(slot, tier);
    if (cached > 0) overlaps.emplace_back(targets_.target(slot), cached);
  }
  return overlaps;
}

}  // namespace kvroute
