#include "policy/waiting_requests.h"

#include <algorithm>
#include <cmath>

#include "policy/known_mean.h"

namespace kvroute::detail {

WaitingRequests::WaitingRequests(const ScoreInput& input) noexcept
    : input_(input), oldest_(input.now - seconds_to_ns(input.report_lifetime_seconds)) {
  KnownMean queues;
  for (const Slot slot : input.candidates) {
    const TargetLoad& load = input.loads[slot];
    if (reports(load)) {
      queues.add(reported(load));
    } else {
      all_report_ = false;
    }
  }
  usual_ = queues.value();
  reported_ = queues.range();
  if (all_report_ || usual_ == 0) return;
  KnownMean all_sent;
  for (const Slot slot : input.candidates) {
    if (reports(input.loads[slot])) all_sent.add(sent_of_late(input, slot));
  }
  usual_sent_ = all_sent.value();
}

Range WaitingRequests::range() const noexcept {
  if (all_report_) return reported_;
  Range range = reported_;
  for (const Slot slot : input_.candidates) {
    if (!reports(input_.loads[slot])) range.add(silent(slot));
  }
  return range;
}

// A target that was sent exactly as much as the others counts as they do: the sums err by less.
constexpr double kRounding = 1e-9;

double WaitingRequests::silent(Slot slot) const noexcept {
  const double booked = input_.loads[slot].prefilling;
  if (usual_ == 0) return booked;
  const double like_others = usual_ * (sent_of_late(input_, slot) + 1) / (usual_sent_ + 1);
  return std::max(booked, std::floor(like_others + kRounding));
}

}  // namespace kvroute::detail
