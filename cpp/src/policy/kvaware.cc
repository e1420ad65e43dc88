#include "kvroute/policy/kvaware.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kvroute/policy/session.h"
#include "policy/longest_match.h"
#include "policy/spec_reader.h"

namespace kvroute {

KvAware::KvAware(double threshold, std::unique_ptr<Policy> fallback, PickRule rule)
    : MostCached(rule),
      threshold_(threshold),
      fallback_(fallback ? std::move(fallback) : std::make_unique<Session>()) {}

std::unique_ptr<Policy> KvAware::from(detail::SpecReader& reader) {
  return with_rule(reader, reader.pick_rule());
}

std::unique_ptr<Policy> KvAware::with_rule(detail::SpecReader& reader, PickRule rule) {
  const double threshold =
      reader.number("kv_aware_threshold", kThreshold, 0, std::numeric_limits<double>::infinity());
  return std::make_unique<KvAware>(threshold, reader.policy("fallback", "session"), rule);
}

const Policy& KvAware::decider(const ScoreInput& input) const noexcept {
  const auto longest = static_cast<double>(detail::longest_match(input));
  const double enough = std::max(static_cast<double>(input.num_tokens) - threshold_, 0.0);
  return longest > 0 && longest >= enough ? *this : fallback_->decider(input);
}

}  // namespace kvroute
