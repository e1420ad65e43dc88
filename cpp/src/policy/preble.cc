#include "kvroute/policy/preble.h"

#include <algorithm>
#include <limits>

#include "policy/prediction.h"
#include "policy/spec_reader.h"

namespace kvroute {
namespace {

// Cached tokens that a candidate must have at least.
std::uint64_t least_cached(const ScoreInput& input) noexcept {
  std::uint64_t best = 0;
  for (const Slot slot : input.candidates) best = std::max(best, input.cached_tokens(slot));
  return best > input.num_tokens - best ? best : 0;
}

}  // namespace

// What is the same for all candidates. A division costs as much as the rest of a target's score.
struct Preble::Shared {
  explicit Shared(const ScoreInput& input) noexcept
      : now(input.now, input.fleet->window_seconds),
        scales(input),
        decode_seconds(input.fleet->decode_seconds.value()),
        seconds_per_token(1 / input.fleet->prefill.tokens_per_second),
        half_attention(input.fleet->prefill.attention_seconds / 2),
        tokens(static_cast<double>(input.num_tokens)) {}

  /// `PrefillModel::seconds` of the request.
  [[nodiscard]] double prefill(double cached) const noexcept {
    return (tokens - cached) * seconds_per_token +
           half_attention * (tokens * tokens - cached * cached);
  }

  Window::Part now;
  detail::PrefillScales scales;
  double decode_seconds;
  double seconds_per_token;
  double half_attention;
  double tokens;
};

struct Preble::Parts {
  Window::Total window;
  double scale = 1;
  double load = 0;
  double eviction = 0;
  double prefill = 0;
  [[nodiscard]] double cost() const noexcept { return load + eviction + prefill; }
};

std::unique_ptr<Policy> Preble::from(detail::SpecReader& reader) {
  const PrebleOptions absent;
  return std::make_unique<Preble>(
      PrebleOptions{.reuse = reader.number("reuse", absent.reuse, 0, 1)}, reader.pick_rule());
}

Preble::Parts Preble::parts(const ScoreInput& input, const Shared& shared,
                            Slot slot) const noexcept {
  const auto cached = static_cast<double>(input.cached_tokens(slot));
  Parts parts;
  parts.scale = shared.scales(slot);
  parts.window = input.histories[slot].requests.total(shared.now);
  const double seconds_per_token = parts.scale * shared.seconds_per_token;
  parts.load = parts.window.sum * seconds_per_token +
               static_cast<double>(parts.window.count) * shared.decode_seconds;
  parts.eviction = options_.reuse * (shared.tokens - cached) * seconds_per_token;
  parts.prefill = parts.scale * shared.prefill(cached);
  return parts;
}

void Preble::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const std::uint64_t least = least_cached(input);
  const Shared shared(input);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    const Slot slot = input.candidates[i];
    costs[i] = input.cached_tokens(slot) < least ? std::numeric_limits<double>::infinity()
                                                 : parts(input, shared, slot).cost();
  }
}

std::vector<CostTerm> Preble::terms(const ScoreInput& input, Slot slot) const {
  const Parts p = parts(input, Shared(input), slot);
  const std::uint64_t least = least_cached(input);
  return {{"load_seconds", p.load},
          {"eviction_seconds", p.eviction},
          {"prefill_seconds", p.prefill},
          {"exploits", least > 0 ? 1.0 : 0.0},
          {"eligible", input.cached_tokens(slot) >= least ? 1.0 : 0.0},
          {"cached_tokens", static_cast<double>(input.cached_tokens(slot))},
          {"window_requests", static_cast<double>(p.window.count)},
          {"window_tokens", p.window.sum},
          {"prefill_scale", p.scale}};
}

}  // namespace kvroute
