// What a decision would be, and what decisions were.

#include <algorithm>
#include <span>
#include <vector>

#include "router/decision_reading.h"
#include "router/explaining.h"
#include "router/router_impl.h"

namespace kvroute {

// A copy of what a policy may look at, so that explaining it, which takes much longer than scoring,
// delays no booking. By 64 targets at a time: a decision between them may be seen in some. A change
// of membership or policy still waits for the explanation, and decisions for that change.
ScoreInput Router::Impl::see_loads(const detail::Decision& decision, const Request& request,
                                   SeenLoads& seen) const {
  constexpr std::size_t kAtOnce = 64;
  seen.loads.reserve(targets_.slot_count());
  seen.histories.reserve(targets_.slot_count());
  ScoreInput input;
  bool is_whole = false;
  while (!is_whole) {
    const std::lock_guard load_lock(load_mutex_);
    const std::size_t first = seen.loads.size();
    if (first == 0) {
      input = input_of(decision, request);
      seen.fleet = load_.fleet();
    }
    const std::size_t count = std::min(kAtOnce, load_.loads().size() - first);
    const auto loads = load_.loads().subspan(first, count);
    const auto histories = load_.histories().subspan(first, count);
    seen.loads.insert(seen.loads.end(), loads.begin(), loads.end());
    seen.histories.insert(seen.histories.end(), histories.begin(), histories.end());
    is_whole = first + count == load_.loads().size();
  }
  input.loads = seen.loads;
  input.histories = seen.histories;
  input.fleet = &seen.fleet;
  return input;
}

Explanation Router::Impl::explain(const Request& request) const {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  detail::Decision& decision = detail::Decision::of_this_thread();
  decision.begin(request, options_.block_size);
  decision.find_eligible(request, targets_, true);
  if (targets_.listed().empty()) decision.eligibility().require_somebody(request, targets_);
  decision.hash(request, options_.block_size, indexes_);
  expire(now());
  expire_bookings();
  decision.match(targets_, indexes_);
  SeenLoads seen;
  ScoreInput input = see_loads(decision, request, seen);
  if (options_.overload.any()) {
    decision.eligibility().drop_overloaded(options_.overload, input);
    input.candidates = decision.eligibility().slots();
  }
  std::span<const double> given;
  if (request.given != nullptr && !input.candidates.empty() &&
      decision.take_given(*request.given, targets_)) {
    given = decision.costs();
  }
  return detail::explanation_of(*policy_of(request), input, decision.eligibility().excluded(),
                                targets_.targets(), given);
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
