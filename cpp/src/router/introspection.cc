// What a decision would be, and what decisions were.

#include <algorithm>
#include <span>
#include <vector>

#include "router/decision_reading.h"
#include "router/explaining.h"
#include "router/router_impl.h"

namespace kvroute {

Explanation Router::Impl::explain(const Request& request) const {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  detail::Decision& decision = detail::Decision::of_this_thread();
  decision.begin(request, options_.block_size);
  decision.find_eligible(request, targets_, true);
  if (targets_.listed().empty()) decision.eligibility().require_somebody(request, targets_);
  decision.hash(request, options_.block_size, indexes_);
  expire(now());
  decision.match(targets_, indexes_);
  const std::lock_guard load_lock(load_mutex_);
  decision.eligibility().drop_overloaded(options_.overload, input_of(decision, request));
  const ScoreInput input = input_of(decision, request);
  std::span<const double> given;
  if (request.given != nullptr && !input.candidates.empty() &&
      decision.take_given(*request.given, targets_)) {
    given = decision.costs();
  }
  return detail::explanation_of(*policy_, input, decision.eligibility().excluded(),
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
