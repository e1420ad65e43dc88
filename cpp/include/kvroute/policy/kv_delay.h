#pragma once

#include "kvroute/policy/policy.h"

namespace kvroute {

/// Parameters of `KvDelay`. None of them weighs cache against load.
struct KvDelayOptions {
  double kv_room = 0.8;       ///< share of a target's blocks above which requests wait for room
  double fleet_share = 0.75;  ///< of K: what the fleet's arrivals make; the rest: the target's own
  double max_utilization = 0.9;  ///< at which the queues' formula is held, below 1
};

/// kvroute's own rule: the request's predicted time to first token, plus the delay that it puts on
/// the requests behind it. In seconds; for L prompt tokens of which c are cached or used there by
/// running or waiting requests:
///
///     cost = u + w + K * (u*w + w^2/2)
///     w    = s * [(L - c)/R + A*(L^2 - c^2)/2]                          its own prefill
///     u    = max(0, s*backlog_seconds - min(now - head_started, s*head_seconds))  before its turn
///          + S * max(0, used/total_blocks - kv_room)                    waiting for KV blocks
///     K    = fleet_share * l/(1 - l*W) + (1 - fleet_share) * l_e/(1 - l_e*W_e)
///     used = active_blocks + expected_output_blocks
///          + the request's blocks that are not active there and those of its expected output
///
/// R and A are `FleetLoad::prefill`. s is the target's measured by predicted prefill time, the
/// fleet's where it has none yet, else 1; held in [1/8, 8]. S is the fleet's mean time from first
/// token to end. l is the arrivals a second and target, W the mean of w over booked requests; l_e
/// and W_e are the target's own; l*W and l_e*W_e are held at `max_utilization`. The expected output
/// is what the caller said, else the fleet's mean. How far s is the target's own, and
/// which costs count as equal, is as in `Ttft`. Over pools of prefill and decode, l counts the
/// targets of both (FleetLoad::arrivals_per_target), and the fleet's part of K is too small by as
/// much; l_e is right.
///
/// `u + w` is the request's own time to first token. `K * (u*w + w^2/2)` is the delay that w
/// seconds of work put on those who come after, as the theory of the M/G/1 queue gives it
/// (size-aware dispatching by one step of policy iteration: Hyytiä, Penttinen and Aalto, 2012).
/// With few arrivals K vanishes and the rule is that of `ttft`; near saturation u*w decides, new
/// tokens times queue as in `lmetric`.
///
/// All figures are this router's own bookings and measurements; engine reports are not used. What
/// is not known yet counts as nothing: no room is waited for where `total_blocks` is unknown or no
/// request has ended, and K is 0 before the second arrival.
class KvDelay final : public Policy {
 public:
  explicit KvDelay(KvDelayOptions options = {}, PickRule rule = {})
      : Policy(rule), options_(options) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "kv_delay"; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;
  [[nodiscard]] std::size_t pick(const ScoreInput& input, std::span<const double> costs,
                                 PickState& state) const noexcept override;

 private:
  struct Shared;
  struct Parts;

  [[nodiscard]] Parts parts(const ScoreInput& input, const Shared& shared,
                            Slot slot) const noexcept;

  KvDelayOptions options_;
};

}  // namespace kvroute
