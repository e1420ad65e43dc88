// Choosing: Router::Impl's fast side.

#include <utility>
#include <vector>

#include "router/router_impl.h"

namespace kvroute {

using detail::Decision;

void Router::Impl::expire(Nanoseconds now) const {
  indexes_.for_each([now](std::uint32_t /*block_size*/, PrefixTree& tree) { tree.expire(now); });
}

// Position of the chosen candidate. Under load_mutex_.
// \throws NoEligibleWorker, with nothing changed
std::size_t Router::Impl::pick(Decision& decision, const Request& request) {
  detail::Eligibility& eligibility = decision.eligibility();
  if (options_.overload.any()) {
    eligibility.drop_overloaded(options_.overload, input_of(decision, request));
  }
  eligibility.require_somebody(request, targets_);
  const ScoreInput input = input_of(decision, request);
  const std::span<double> costs = decision.costs();
  const Policy& decider = policy_->decider(input);
  decider.score(input, costs);
  const std::size_t position = decider.pick(input, costs, pick_state_);
  const Slot slot = input.candidates[position];
  load_.note_pick(slot, input.uncached_tokens(slot), input.now);
  ++selections_;
  return position;
}

ScoreInput Router::Impl::input_of(const Decision& decision, const Request& request) const {
  return decision.input(request, options_.block_size, targets_, &load_, now());
}

Selection Router::Impl::selection(Decision& decision, const Request& request,
                                  std::size_t position) const {
  const ScoreInput input = input_of(decision, request);
  const Policy& decider = policy_->decider(input);
  const Slot slot = input.candidates[position];
  const std::uint64_t cached = input.cached_tokens(slot);
  Selection chosen{.target = targets_.target(slot),
                   .cached_tokens = cached,
                   .prefill_tokens = input.num_tokens - cached,
                   .cost = std::nullopt,
                   .rule = decider.name()};
  if (decider.has_cost()) chosen.cost = decision.costs()[position];
  return chosen;
}

Selection Router::Impl::select(const Request& request) {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  Decision& decision = Decision::of_this_thread();
  decision.begin(request, options_.block_size);
  decision.find_eligible(request, targets_);
  decision.eligibility().require_somebody(request, targets_);
  if (policy_->needs_overlap()) {
    decision.hash(request, options_.block_size, indexes_);
    expire(now());
  }
  decision.match(targets_, indexes_);
  const std::lock_guard load_lock(load_mutex_);
  const std::size_t position = pick(decision, request);
  return selection(decision, request, position);
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
