#pragma once

#include <memory>

#include "kvroute/policy/least_requests.h"
#include "kvroute/policy/policy.h"
#include "kvroute/policy/ttft.h"

namespace kvroute {

/// Parameters of `PrefixHash`; the defaults are SMG's.
struct PrefixHashOptions {
  std::uint32_t prefix_tokens = 256;  ///< that make the prompt's head
  double load_factor = 1.25;          ///< times the mean a target may have; at least 1
};

/// Prompts with the same head go to the same target, as long as that one is not overloaded:
/// consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016; SMG's
/// `prefix_hash`), without looking at what anyone holds.
///
///     cost = 1 - weight(head, target)          in (0, 1]
///          + 1 where the target is full
///     full = requests + 1 > ceil(load_factor * mean)
///
/// `head` is a hash of the full blocks in the prompt's first `prefix_tokens` tokens, `weight` one
/// of head and the target's name and rank, uniform in [0, 1). `requests` is this router's own
/// bookings, `mean` theirs over the candidates with this request counted in, so that somebody is
/// never full. A prompt without a full block goes to `least_requests`.
///
/// Where it differs: the order of a ring's nodes is that of rendezvous hashing, which needs no ring
/// and moves only the heads of a target that comes or goes; an overloaded target is passed over for
/// the next in the head's own order, as Mirrokni et al. do, where SMG takes the least loaded; SMG
/// also asks for 10 requests above the mean.
class PrefixHash final : public Policy {
 public:
  explicit PrefixHash(PrefixHashOptions options = {}, PickRule rule = {})
      : Policy(rule), options_(options) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "prefix_hash"; }
  [[nodiscard]] const Policy& decider(const ScoreInput& input) const noexcept override;
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  [[nodiscard]] double most_requests(const ScoreInput& input) const noexcept;

  PrefixHashOptions options_;
  LeastRequests without_head_;
};

/// Parameters of `DualMap`.
struct DualMapOptions {
  std::uint32_t prefix_tokens = 256;  ///< that make the prompt's head
  double slo_seconds = 5;             ///< time to first token above which the cache yields to load
};

/// Two targets for each head of a prompt, and the better of them (Yuan et al., "DualMap: Enabling
/// Both Cache Affinity and Load Balancing for Distributed LLM Serving", 2026): prompts that share a
/// head meet again, different heads spread as with two choices.
///
///     candidates = the targets that want the head most, under two hash functions
///     preferred  = the one of them with more cached tokens; else with fewer tokens in use
///     cost       = share of the prompt that is not cached   if ttft(preferred) <= slo_seconds
///                = ttft                                     in seconds, otherwise
///                = infinite                                 for all others
///
/// `head` is as in `prefix_hash`, ttft the cost of `ttft`. A prompt without a full block goes to
/// `ttft`. Exact ties go to the target with the fewest tokens in use, then evenly.
///
/// Where it differs: a head has a fixed length, where DualMap lengthens those that became hot; the
/// two functions are rendezvous hashes instead of rings; requests that wait are not moved.
class DualMap final : public Policy {
 public:
  explicit DualMap(DualMapOptions options = {}, PickRule rule = {})
      : Policy(rule), options_(options) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "dual_map"; }
  [[nodiscard]] const Policy& decider(const ScoreInput& input) const noexcept override;
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;
  [[nodiscard]] std::size_t pick(const ScoreInput& input, std::span<const double> costs,
                                 PickState& state) const noexcept override;

 private:
  struct Pair;
  [[nodiscard]] Pair pair(const ScoreInput& input) const noexcept;

  DualMapOptions options_;
  Ttft without_head_;
};

}  // namespace kvroute
