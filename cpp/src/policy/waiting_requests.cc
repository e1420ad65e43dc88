#include "policy/waiting_requests.h"

#include <algorithm>
#include <cmath>

#include "policy/known_mean.h"

namespace kvroute::detail {

WaitingRequests::WaitingRequests(const ScoreInput& input) noexcept
    : input_(input), reports_(input) {
  KnownMean queues;
  bool all_report = true;
  for (const Slot slot : input.candidates) {
    const auto waiting = reports_(slot).waiting;
    all_report = all_report && waiting.has_value();
    if (waiting) queues.add(reported(slot, *waiting));
  }
  usual_ = queues.value();
  if (all_report || usual_ == 0) return;
  KnownMean all_sent;
  for (const Slot slot : input.candidates) {
    if (reports_(slot).waiting) all_sent.add(sent_of_late(input, slot));
  }
  usual_sent_ = all_sent.value();
}

double WaitingRequests::silent(Slot slot) const noexcept {
  const double booked = input_.loads[slot].prefilling;
  if (usual_ == 0) return booked;
  return std::max(booked,
                  std::floor(usual_ * (sent_of_late(input_, slot) + 1) / (usual_sent_ + 1)));
}

}  // namespace kvroute::detail
