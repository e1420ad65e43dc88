#include "kvroute/policy/least_loaded.h"

#include <algorithm>
#include <limits>

#include "policy/spec_reader.h"

namespace kvroute {

std::unique_ptr<Policy> LeastLoaded::from(detail::SpecReader& reader) {
  const std::string_view missing =
      reader.choice("stats_missing", "round_robin", {"round_robin", "skip", "zero"});
  return std::make_unique<LeastLoaded>(missing == "skip"   ? StatsMissing::skip
                                       : missing == "zero" ? StatsMissing::zero
                                                           : StatsMissing::round_robin,
                                       reader.pick_rule());
}

const Policy& LeastLoaded::decider(const ScoreInput& input) const noexcept {
  if (missing_ == StatsMissing::zero) return *this;
  const EngineQueues queues(input, missing_);
  const auto known = [&](Slot slot) { return queues.has_statistics(slot); };
  const bool usable = missing_ == StatsMissing::skip ? std::ranges::any_of(input.candidates, known)
                                                     : std::ranges::all_of(input.candidates, known);
  if (usable) return *this;
  return in_turn_;
}

void LeastLoaded::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const EngineQueues queues(input, missing_);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = queues.of(input.candidates[i]).value_or(std::numeric_limits<double>::infinity());
  }
}

std::vector<CostTerm> LeastLoaded::terms(const ScoreInput& input, Slot slot) const {
  const EngineLoad reported = input.reported(slot);
  const bool known = EngineQueues(input, missing_).has_statistics(slot);
  const TargetLoad& load = input.loads[slot];
  return {{"running", static_cast<double>(reported.running.value_or(0))},
          {"waiting", static_cast<double>(reported.waiting.value_or(0))},
          {"unfinished_since_report", static_cast<double>(load.unfinished)},
          {"active_requests", static_cast<double>(load.requests)},
          {"has_statistics", known ? 1.0 : 0.0}};
}

}  // namespace kvroute
