#include "kvroute/policy/load_balanced_kvaware.h"

#include <optional>
#include <utility>

#include "policy/spec_reader.h"
#include "policy/spread.h"

namespace kvroute {

LoadBalancedKvAware::LoadBalancedKvAware(double imbalanced_threshold, StatsMissing missing,
                                         std::unique_ptr<Policy> kvaware, PickRule rule)
    : Policy(rule),
      imbalanced_threshold_(imbalanced_threshold),
      missing_(missing),
      least_loaded_(missing, rule),
      kvaware_(kvaware ? std::move(kvaware) : std::make_unique<KvAware>()) {}

std::unique_ptr<Policy> LoadBalancedKvAware::from(detail::SpecReader& reader) {
  const double threshold = reader.number("imbalanced_threshold", kNever, 0, kNever);
  const bool zero = reader.choice("stats_missing", "skip", {"skip", "zero"}) == "zero";
  const PickRule rule = reader.pick_rule();
  return std::make_unique<LoadBalancedKvAware>(threshold,
                                               zero ? StatsMissing::zero : StatsMissing::skip,
                                               KvAware::with_rule(reader, rule), rule);
}

const Policy& LoadBalancedKvAware::decider(const ScoreInput& input) const noexcept {
  if (imbalanced_threshold_ < kNever) {
    const EngineQueues queues(input, missing_);
    const auto spread = detail::spread_of(input, [&](Slot slot) { return queues.of(slot); });
    if (spread && *spread >= imbalanced_threshold_) return least_loaded_;
  }
  return kvaware_->decider(input);
}

void LoadBalancedKvAware::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  decider(input).score(input, costs);
}

std::vector<CostTerm> LoadBalancedKvAware::terms(const ScoreInput& input, Slot slot) const {
  return decider(input).terms(input, slot);
}

}  // namespace kvroute
