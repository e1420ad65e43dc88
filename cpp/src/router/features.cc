#include "kvroute/router/features.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "policy/prediction.h"
#include "router/router_impl.h"

namespace kvroute {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

template <typename T>
double known(const std::optional<T>& value) {
  return value ? static_cast<double>(*value) : kUnknown;
}

double known(const RunningMean& mean) { return mean.value(kUnknown); }

std::uint32_t depth(const ScoreInput& input, Slot slot, Tier tier) {
  const auto& depths = input.depths[index_of(tier)];
  return depths.empty() ? input.held[slot] : depths[slot];
}

/// In the order of kFeatureNames.
std::array<double, kFeatureNames.size()> figures(const ScoreInput& input, Slot slot,
                                                 double confidence) {
  const TargetLoad& load = input.loads[slot];
  const FleetLoad& fleet = *input.fleet;
  const EngineLoad reported = input.reported(slot);
  const auto number = [](auto value) { return static_cast<double>(value); };
  const std::uint64_t cached = input.cached_tokens(slot);
  const double scale = detail::PrefillScales(input)(slot);
  const Window::Total requests =
      input.histories[slot].requests.total(input.now, fleet.window_seconds);
  const Window::Total first_tokens =
      input.histories[slot].first_tokens.total(input.now, fleet.window_seconds);
  return {number(input.held[slot]),
          number(depth(input, slot, Tier::host)),
          number(depth(input, slot, Tier::disk)),
          number(depth(input, slot, Tier::external)),
          number(input.active[slot]),
          confidence,
          number(cached),
          number(input.num_tokens - cached),
          fleet.prefill.seconds(input.num_tokens, cached),
          number(load.prefill_tokens),
          load.backlog_seconds,
          detail::backlog_left(load, input.now, scale),
          scale,
          known(load.prefill_seconds),
          load.arrivals.seconds_between(input.now, fleet.memory_of_a_target()),
          number(load.active_blocks()),
          number(load.expected_output_blocks),
          number(load.requests),
          number(load.prefilling),
          input.total_blocks[slot] > 0 ? number(input.total_blocks[slot]) : kUnknown,
          number(input.block_sizes[slot]),
          known(reported.waiting),
          known(reported.running),
          known(reported.kv_usage),
          number(load.unreported),
          number(load.unfinished),
          load.reports > 0 ? ns_to_seconds(input.now - load.reported_at) : kUnknown,
          load.recent_requests.value(input.now, fleet.recent_time_constant),
          load.recent_tokens.value(input.now, fleet.recent_time_constant),
          number(requests.count) / fleet.window_seconds,
          first_tokens.mean(kUnknown),
          input.preferences.empty() ? 0 : input.preferences[slot]};
}

}  // namespace

const TargetId& Features::target(std::size_t position) const {
  return roster->targets[slots[position]];
}

// Not under load_mutex_: it asks the event thread.
double Router::Impl::confidence_of(Slot slot) const {
  const TargetId& target = targets_.target(slot);
  const Feed& feed = feeds_.at(target.worker);
  if (!feed.sink) return confidence::kPredicted;
  const auto stream = subscriber_->stats(feed.kv_streams[target.dp_rank]);
  return stream && stream->connected && !stream->partial ? confidence::kExact
                                                         : confidence::kPartial;
}

Features Router::Impl::features(const Request& request) const {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  detail::Decision& decision = detail::Decision::of_this_thread();
  decision.begin(request, options_.block_size);
  decision.find_eligible(request, targets_);
  decision.eligibility().require_somebody(request, targets_);
  decision.hash(request, options_.block_size, indexes_);
  expire(now());
  expire_bookings();
  decision.match(targets_, indexes_);

  Features features;
  features.num_tokens = decision.num_tokens();
  features.block_size = options_.block_size;
  features.session_id = request.session_id;
  features.expected_output_tokens = request.expected_output_tokens;
  features.membership = targets_.membership();
  features.roster = roster_.of(targets_);
  std::vector<double> confidences(targets_.slot_count());  // by slot
  for (const Slot slot : decision.eligibility().slots()) confidences[slot] = confidence_of(slot);
  const std::lock_guard load_lock(load_mutex_);
  decision.eligibility().drop_overloaded(options_.overload, input_of(decision, request));
  decision.eligibility().require_somebody(request, targets_);
  const ScoreInput input = input_of(decision, request);
  features.now = input.now;
  features.fleet = load_.fleet();
  features.slots.assign(input.candidates.begin(), input.candidates.end());
  features.values.resize(kFeatureNames.size() * features.slots.size());
  for (std::size_t position = 0; position < features.slots.size(); ++position) {
    const Slot slot = features.slots[position];
    const auto of_target = figures(input, slot, confidences[slot]);
    for (std::size_t feature = 0; feature < of_target.size(); ++feature) {
      features.values[feature * features.slots.size() + position] = of_target[feature];
    }
  }
  indexes_.for_each([&](std::uint32_t block_size, const PrefixTree& /*tree*/) {
    const auto hashes = decision.hashes(block_size);
    features.hashes.emplace_back(block_size, std::vector(hashes.begin(), hashes.end()));
  });
  return features;
}

}  // namespace kvroute
