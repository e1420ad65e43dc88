#include "kvroute/policy/qps.h"

#include <algorithm>

#include "policy/spec_reader.h"

namespace kvroute {
namespace {

constexpr double kLeastSeconds = 1e-9;  // at the instant of joining, counts still compare

}  // namespace

std::unique_ptr<Policy> Qps::from(detail::SpecReader& reader) {
  const double warm_up = reader.number("warm_up", kWarmUpSeconds, 0, 1e6);
  return std::make_unique<Qps>(warm_up, reader.pick_rule());
}

// The integral of the ramp from joining to `age`.
double Qps::seconds_since_joining(double age) const noexcept {
  if (age <= 0) return 0;
  return age < warm_up_ ? age * age / (2 * warm_up_) : age - warm_up_ / 2;
}

Qps::Parts Qps::parts(const ScoreInput& input, Slot slot, Window::Part now) const noexcept {
  const double window = input.fleet->window_seconds;
  const double age = ns_to_seconds(input.now - input.loads[slot].joined_at);
  double seconds = window;
  if (age < window + warm_up_) {
    seconds = seconds_since_joining(age) - seconds_since_joining(age - window);
  }
  return {static_cast<double>(input.histories[slot].requests.total(now).count),
          std::max(seconds, kLeastSeconds)};
}

void Qps::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const Window::Part now(input.now, input.fleet->window_seconds);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = parts(input, input.candidates[i], now).rate();
  }
}

std::vector<CostTerm> Qps::terms(const ScoreInput& input, Slot slot) const {
  const Parts p = parts(input, slot, Window::Part(input.now, input.fleet->window_seconds));
  return {{"requests_per_second", p.rate()},
          {"requests_in_window", p.requests},
          {"seconds_observed", p.seconds}};
}

}  // namespace kvroute
