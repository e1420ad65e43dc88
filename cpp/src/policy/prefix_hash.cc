#include "kvroute/policy/prefix_hash.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "policy/prediction.h"
#include "policy/prefix_key.h"
#include "policy/rendezvous.h"
#include "policy/spec_reader.h"
#include "policy/ties.h"

namespace kvroute {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::uint64_t kMostPrefixTokens = 1U << 24;

std::uint32_t prefix_tokens(detail::SpecReader& reader, std::uint32_t absent) {
  return static_cast<std::uint32_t>(reader.whole("prefix_tokens", absent, 1, kMostPrefixTokens));
}

// Position of the candidate that wants the key most, `except` left out.
std::size_t owner_of(const ScoreInput& input, std::uint64_t key, std::size_t except) noexcept {
  std::size_t best = 0;
  double most = -1;
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    const double weight = detail::rendezvous_weight(key, input.identities[input.candidates[i]]);
    if (weight > most && i != except) {
      most = weight;
      best = i;
    }
  }
  return best;
}

}  // namespace

std::unique_ptr<Policy> PrefixHash::from(detail::SpecReader& reader) {
  const PrefixHashOptions absent;
  return std::make_unique<PrefixHash>(
      PrefixHashOptions{.prefix_tokens = prefix_tokens(reader, absent.prefix_tokens),
                        .load_factor = reader.number("load_factor", absent.load_factor, 1, 1e6)},
      reader.pick_rule());
}

const Policy& PrefixHash::decider(const ScoreInput& input) const noexcept {
  if (input.hashes.empty()) return without_head_;
  return *this;
}

double PrefixHash::most_requests(const ScoreInput& input) const noexcept {
  double requests = 1;
  for (const Slot slot : input.candidates) requests += input.loads[slot].requests;
  return std::ceil(options_.load_factor * requests / static_cast<double>(input.candidates.size()));
}

void PrefixHash::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const std::uint64_t key = detail::prefix_key(input, options_.prefix_tokens).value_or(0);
  const double most = most_requests(input);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    const Slot slot = input.candidates[i];
    costs[i] = 1 - detail::rendezvous_weight(key, input.identities[slot]) +
               (input.loads[slot].requests + 1.0 > most ? 1 : 0);
  }
}

std::vector<CostTerm> PrefixHash::terms(const ScoreInput& input, Slot slot) const {
  const std::uint64_t key = detail::prefix_key(input, options_.prefix_tokens).value_or(0);
  const double most = most_requests(input);
  const double requests = input.loads[slot].requests;
  return {{"weight", detail::rendezvous_weight(key, input.identities[slot])},
          {"full", requests + 1 > most ? 1.0 : 0.0},
          {"requests", requests},
          {"most_requests", most}};
}

struct DualMap::Pair {
  std::size_t first = 0;  // positions among the candidates; the same where there is one only
  std::size_t second = 0;
  bool by_cache = true;
};

std::unique_ptr<Policy> DualMap::from(detail::SpecReader& reader) {
  const DualMapOptions absent;
  return std::make_unique<DualMap>(
      DualMapOptions{.prefix_tokens = prefix_tokens(reader, absent.prefix_tokens),
                     .slo_seconds = reader.number("slo_seconds", absent.slo_seconds, 0, kInfinity)},
      reader.pick_rule());
}

const Policy& DualMap::decider(const ScoreInput& input) const noexcept {
  if (input.hashes.empty()) return without_head_;
  return *this;
}

DualMap::Pair DualMap::pair(const ScoreInput& input) const noexcept {
  const std::uint64_t key = detail::prefix_key(input, options_.prefix_tokens).value_or(0);
  Pair pair;
  pair.first = owner_of(input, key, input.candidates.size());
  pair.second = owner_of(input, ~key, input.candidates.size() > 1 ? pair.first : 1);
  const Slot first = input.candidates[pair.first];
  const Slot second = input.candidates[pair.second];
  const std::uint64_t cached_first = input.cached_tokens(first);
  const std::uint64_t cached_second = input.cached_tokens(second);
  const bool prefers_first =
      cached_first > cached_second ||
      (cached_first == cached_second &&
       detail::tokens_in_use(input, first) <= detail::tokens_in_use(input, second));
  const detail::PrefillScales scales(input);
  pair.by_cache = detail::time_to_first_token(input, prefers_first ? first : second, scales) <=
                  options_.slo_seconds;
  return pair;
}

void DualMap::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const Pair two = pair(input);
  const detail::PrefillScales scales(input);
  std::ranges::fill(costs, kInfinity);
  for (const std::size_t i : {two.first, two.second}) {
    const Slot slot = input.candidates[i];
    costs[i] = two.by_cache ? static_cast<double>(input.uncached_tokens(slot)) /
                                  static_cast<double>(input.num_tokens)
                            : detail::time_to_first_token(input, slot, scales);
  }
}

std::vector<CostTerm> DualMap::terms(const ScoreInput& input, Slot slot) const {
  const Pair two = pair(input);
  const bool mapped = input.candidates[two.first] == slot || input.candidates[two.second] == slot;
  return {{"mapped", mapped ? 1.0 : 0.0},
          {"by_cache", two.by_cache ? 1.0 : 0.0},
          {"cached_tokens", static_cast<double>(input.cached_tokens(slot))},
          {"ttft_seconds", detail::time_to_first_token(input, slot, detail::PrefillScales(input))},
          {"tokens_in_use", static_cast<double>(detail::tokens_in_use(input, slot))}};
}

std::size_t DualMap::pick(const ScoreInput& input, std::span<const double> costs,
                          PickState& state) const noexcept {
  if (!detail::takes_the_least(rule(), input)) return Policy::pick(input, costs, state);
  return detail::pick_least_then(costs, state.random, detail::TokensInUse{input});
}

}  // namespace kvroute
