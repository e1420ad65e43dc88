#include "kvroute/policy/kv_delay.h"

#include <algorithm>

#include "policy/prediction.h"
#include "policy/spec_reader.h"
#include "policy/ties.h"

namespace kvroute {

// What all candidates have in common.
struct KvDelay::Shared {
  Shared(const ScoreInput& input, const KvDelayOptions& options) noexcept
      : per_token(1 / input.fleet->prefill.tokens_per_second),
        scales(input),
        mean_seconds(input.fleet->prefill_seconds.value()),
        decode_seconds(input.fleet->decode_seconds.value()),
        arrivals(input.fleet->arrivals_per_target(input.now)),
        memory(input.fleet->memory_of_a_target()),
        needed(input),
        utilization(std::min(arrivals * scales.of_fleet() * mean_seconds, options.max_utilization)),
        delayed(options.fleet_share * arrivals / (1 - utilization)) {}

  double per_token;  // seconds, of the linear part of a prefill
  detail::PrefillScales scales;
  double mean_seconds;    // predicted, before the scale
  double decode_seconds;  // S
  double arrivals;        // a second and target
  double memory;          // of a target's own arrivals
  detail::BlocksNeeded needed;
  double utilization;
  double delayed;  // the fleet's part of K
};

struct KvDelay::Parts {
  double scale = 1;
  double own = 0;      // w
  double backlog = 0;  // u without the wait for room
  double used = 0;     // blocks
  double room = 0;     // the wait for room
  double between = 0;  // seconds from one of its own arrivals to the next
  double work = 0;     // that each of them brings, in seconds
  double delayed = 0;  // K
  [[nodiscard]] double before() const noexcept { return backlog + room; }
  [[nodiscard]] double delay() const noexcept { return delayed * own * (before() + own / 2); }
  [[nodiscard]] double cost() const noexcept { return before() + own + delay(); }
};

std::unique_ptr<Policy> KvDelay::from(detail::SpecReader& reader) {
  const KvDelayOptions absent;
  return std::make_unique<KvDelay>(
      KvDelayOptions{
          .kv_room = reader.number("kv_room", absent.kv_room, 0, 1),
          .fleet_share = reader.number("fleet_share", absent.fleet_share, 0, 1),
          .max_utilization = reader.number("max_utilization", absent.max_utilization, 0, 0.999)},
      reader.pick_rule());
}

// Inline, so that scores alone are computed where nobody asks for the rest.
[[gnu::always_inline]] inline KvDelay::Parts KvDelay::parts(const ScoreInput& input,
                                                            const Shared& shared,
                                                            Slot slot) const noexcept {
  const TargetLoad& load = input.loads[slot];
  Parts parts;
  parts.scale = shared.scales(slot);
  const auto tokens = static_cast<double>(input.num_tokens);
  const auto known = static_cast<double>(input.cached_or_active_tokens(slot));
  parts.own = parts.scale * (tokens - known) *
              (shared.per_token + input.fleet->prefill.attention_seconds * (tokens + known) / 2);
  parts.backlog = detail::backlog_left(load, input.now, parts.scale);

  parts.used = shared.needed(slot);
  if (const std::uint64_t capacity = input.total_blocks[slot]; capacity > 0) {
    // Most have room, and a division costs as much as the rest of this.
    if (const auto blocks = static_cast<double>(capacity);
        parts.used > (1 - 1e-9) * options_.kv_room * blocks) {
      parts.room = shared.decode_seconds * std::max(0.0, parts.used / blocks - options_.kv_room);
    }
  }

  // l/(1 - l*W), l*W held below 1, by one division.
  parts.between = load.arrivals.seconds_between(input.now, shared.memory);
  parts.work = parts.scale * load.prefill_seconds.value(shared.mean_seconds);
  parts.delayed = shared.delayed + (1 - options_.fleet_share) /
                                       std::max(parts.between - parts.work,
                                                parts.between * (1 - options_.max_utilization));
  return parts;
}

void KvDelay::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const Shared shared(input, options_);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = parts(input, shared, input.candidates[i]).cost();
  }
}

std::size_t KvDelay::pick(const ScoreInput& input, std::span<const double> costs,
                          PickState& state) const noexcept {
  if (!detail::takes_the_least(rule(), input)) return Policy::pick(input, costs, state);
  return detail::pick_nearly_least(input, costs, state.random);
}

std::vector<CostTerm> KvDelay::terms(const ScoreInput& input, Slot slot) const {
  const Shared shared(input, options_);
  const Parts p = parts(input, shared, slot);
  const TargetLoad& load = input.loads[slot];
  return {{"backlog_seconds", p.backlog},
          {"room_seconds", p.room},
          {"own_seconds", p.own},
          {"delay_of_others_seconds", p.delay()},
          {"delayed_per_second", p.delayed},
          {"cached_or_active_tokens", static_cast<double>(input.cached_or_active_tokens(slot))},
          {"prefill_scale", p.scale},
          {"booked_seconds", load.backlog_seconds},
          {"head_seconds", load.head_seconds},
          {"used_blocks", p.used},
          {"total_blocks", static_cast<double>(input.total_blocks[slot])},
          {"decode_seconds", shared.decode_seconds},
          {"output_tokens", shared.needed.output_tokens()},
          {"fleet_arrivals_per_second", shared.arrivals},
          {"fleet_utilization", shared.utilization},
          {"own_arrivals_per_second", 1 / p.between},
          {"own_utilization", std::min(p.work / p.between, options_.max_utilization)}};
}

}  // namespace kvroute
