// Choosing, and explaining a choice: Router::Impl's fast side.

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "kvroute/base/error.h"
#include "router/router_impl.h"

namespace kvroute {

using detail::Decision;

void Router::Impl::expire(Nanoseconds now) const {
  indexes_.for_each([now](std::uint32_t /*block_size*/, PrefixTree& tree) { tree.expire(now); });
}

// Position of the chosen candidate. Under load_mutex_.
std::size_t Router::Impl::pick(Decision& decision, const Request& request) {
  const ScoreInput input = decision.input(request, options_.block_size, targets_, &load_, now());
  const std::span<double> costs = decision.costs();
  const Policy& decider = policy_->decider(input);
  decider.score(input, costs);
  const std::size_t position = decider.pick(input, costs, pick_state_);
  const Slot slot = input.candidates[position];
  load_.note_pick(slot, input.uncached_tokens(slot), input.now);
  ++selections_;
  return position;
}

Selection Router::Impl::selection(Decision& decision, const Request& request,
                                  std::size_t position) const {
  const ScoreInput input = decision.input(request, options_.block_size, targets_, &load_, now());
  const Slot slot = input.candidates[position];
  const std::uint64_t cached = input.cached_tokens(slot);
  Selection chosen{.target = targets_.target(slot),
                   .cached_tokens = cached,
                   .prefill_tokens = input.num_tokens - cached,
                   .cost = std::nullopt};
  if (policy_->decider(input).has_cost()) chosen.cost = decision.costs()[position];
  return chosen;
}

Selection Router::Impl::select(const Request& request) {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  Decision& decision = Decision::of_this_thread();
  decision.hash(request, options_.block_size, indexes_);
  decision.find_candidates(request, targets_);
  expire(now());
  decision.match(targets_, indexes_);
  const std::lock_guard load_lock(load_mutex_);
  const std::size_t position = pick(decision, request);
  return selection(decision, request, position);
}

Explanation Router::Impl::explain(const Request& request) const {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  Decision& decision = Decision::of_this_thread();
  decision.hash(request, options_.block_size, indexes_);
  decision.find_candidates(request, targets_);
  expire(now());
  decision.match(targets_, indexes_);

  Explanation explanation{
      .policy = policy_->name(), .num_tokens = decision.num_tokens(), .targets = {}};
  const std::lock_guard load_lock(load_mutex_);
  const ScoreInput input = decision.input(request, options_.block_size, targets_, &load_, now());
  const std::span<double> costs = decision.costs();
  const Policy& decider = policy_->decider(input);
  decider.score(input, costs);
  std::vector<std::size_t> order(input.candidates.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (decider.has_cost()) {
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return std::pair(costs[a], a) < std::pair(costs[b], b);
    });
  }
  for (const std::size_t position : order) {
    const Slot slot = input.candidates[position];
    TargetExplanation& target = explanation.targets.emplace_back();
    target.target = targets_.target(slot);
    target.cached_tokens = input.cached_tokens(slot);
    target.terms = decider.terms(input, slot);
    if (decider.has_cost()) target.cost = costs[position];
  }
  for (const Slot slot : targets_.listed()) {
    if (std::binary_search(input.candidates.begin(), input.candidates.end(), slot)) continue;
    TargetExplanation& target = explanation.targets.emplace_back();
    target.target = targets_.target(slot);
    target.eligible = false;
    target.reason = "not in allowed";
    target.cached_tokens = input.cached_tokens(slot);
  }
  return explanation;
}

std::vector<std::pair<TargetId, std::uint64_t>> Router::Impl::overlaps(const Request& request,
                                                                       Tier tier) const {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  Decision& decision = Decision::of_this_thread();
  decision.hash(request, options_.block_size, indexes_);
  expire(now());
  decision.match(targets_, indexes_, tier);
  const ScoreInput input = decision.input(request, options_.block_size, targets_, nullptr, now());
  std::vector<std::pair<TargetId, std::uint64_t>> overlaps;
  for (const Slot slot : targets_.listed()) {
    if (input.held[slot] > 0) {
      overlaps.emplace_back(targets_.target(slot), input.cached_tokens(slot));
    }
  }
  return overlaps;
}

}  // namespace kvroute
