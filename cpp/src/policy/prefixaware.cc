#include "kvroute/policy/prefixaware.h"

#include <utility>

#include "kvroute/policy/qps.h"
#include "policy/longest_match.h"
#include "policy/spec_reader.h"

namespace kvroute {
namespace {

constexpr std::uint64_t kMostTokens = 1ULL << 32;

}  // namespace

PrefixAware::PrefixAware(std::uint64_t min_match_length, std::unique_ptr<Policy> fallback,
                         PickRule rule)
    : MostCached(rule),
      min_match_length_(min_match_length),
      fallback_(fallback ? std::move(fallback) : std::make_unique<Qps>()) {}

std::unique_ptr<Policy> PrefixAware::from(detail::SpecReader& reader) {
  const std::uint64_t least = reader.whole("prefix_min_match_length", 0, 0, kMostTokens);
  auto fallback = reader.policy("fallback", "qps");
  return std::make_unique<PrefixAware>(least, std::move(fallback), reader.pick_rule());
}

const Policy& PrefixAware::decider(const ScoreInput& input) const noexcept {
  if (min_match_length_ == 0 || detail::longest_match(input) >= min_match_length_) return *this;
  return fallback_->decider(input);
}

}  // namespace kvroute
