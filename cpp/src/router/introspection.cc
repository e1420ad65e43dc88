// What a decision would be, and what decisions were.

#include <algorithm>
#include <span>
#include <vector>

#include "router/decision_reading.h"
#include "router/explaining.h"
#include "router/router_impl.h"

namespace kvroute {

// By 64 targets at a time, so that nobody waits long for load_mutex_: a decision between them may
// be seen in some.
Router::Impl::SeenLoads Router::Impl::see_loads() const {
  constexpr std::size_t kAtOnce = 64;
  SeenLoads seen;
  seen.loads.reserve(targets_.slot_count());
  seen.histories.reserve(targets_.slot_count());
  bool is_whole = false;
  while (!is_whole) {
    const std::lock_guard load_lock(load_mutex_);
    const std::size_t first = seen.loads.size();
    const std::size_t count = std::min(kAtOnce, load_.loads().size() - first);
    const auto loads = load_.loads().subspan(first, count);
    const auto histories = load_.histories().subspan(first, count);
    seen.loads.insert(seen.loads.end(), loads.begin(), loads.end());
    seen.histories.insert(seen.histories.end(), histories.begin(), histories.end());
    is_whole = first + count == load_.loads().size();
    if (!is_whole) continue;
    seen.now = now();
    seen.fleet = load_.fleet();
    seen.bookings = load_.bookings();
    seen.expired = load_.expired();
    seen.selections = selections_;
    seen.policy_fallbacks = policy_fallbacks_;
  }
  return seen;
}

ScoreInput Router::Impl::input_of(const detail::Decision& decision, const Request& request,
                                  const SeenLoads& seen) const {
  ScoreInput input = decision.input(request, options_.block_size, targets_, nullptr, seen.now);
  input.loads = seen.loads;
  input.histories = seen.histories;
  input.fleet = &seen.fleet;
  input.report_lifetime_seconds = seen.fleet.report_lifetime_seconds;
  return input;
}

// Under no lock is an explanation made, which takes much longer than scoring: of a copy of all that
// a policy may look at.
Explanation Router::Impl::explain(const Request& request) const {
  std::shared_lock lock(targets_mutex_);
  check_open();
  detail::Decision& decision = detail::Decision::of_this_thread();
  decision.begin(request, options_.block_size);
  decision.find_eligible(request, targets_, true);
  if (targets_.listed().empty()) decision.eligibility().require_somebody(request, targets_);
  decision.hash(request, options_.block_size, indexes_);
  expire(now());
  expire_bookings();
  decision.match(targets_, indexes_);
  const SeenLoads seen = see_loads();
  ScoreInput input = input_of(decision, request, seen);
  decision.eligibility().drop_overloaded(options_.overload, input);
  const auto eligible = decision.eligibility().slots();
  const std::vector<Slot> candidates(eligible.begin(), eligible.end());
  std::span<const double> given;
  if (request.given != nullptr && !candidates.empty() &&
      decision.take_given(*request.given, targets_)) {
    given = decision.costs();
  }
  const auto policy = policy_of(request);
  const auto roster = roster_.of(targets_);
  lock.unlock();
  input.candidates = candidates;
  roster->give_to(input);
  return detail::explanation_of(*policy, input, decision.eligibility().excluded(), roster->targets,
                                given);
}

// Terms are computed without locks, and between two steps decisions go on.
std::vector<DecisionRecord> Router::Impl::recent_decisions(std::size_t limit) const {
  detail::DecisionReading reading(limit);
  bool is_taken = false;
  while (!is_taken) {
    const std::shared_lock lock(targets_mutex_);
    check_open();
    const std::lock_guard load_lock(load_mutex_);
    is_taken = reading.take(log_);
  }
  return reading.records();
}

}  // namespace kvroute
