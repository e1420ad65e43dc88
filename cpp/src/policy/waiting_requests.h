#pragma once

#include "kvroute/policy/score_input.h"
#include "policy/prediction.h"
#include "policy/range.h"

namespace kvroute::detail {

/// Requests that wait at each candidate, by this input. With a fresh report of `waiting`:
///
///     waiting + unreported                                             see TargetLoad
///
/// Without one, by those who have one:
///
///     max(floor(mean of theirs * (sent + 1)/(mean of their sent + 1)), prefilling)
///
/// `sent` is `sent_of_late`. So whoever is silent counts as the others while it is sent as much as
/// they are, and as less when it is sent less: a mean alone would hardly ever be the least, and the
/// silent target get nothing. What it was chosen for adds up nowhere, since no report would ever
/// take it away again; of bookings, those without a first token count. Where nobody reports, they
/// alone.
///
/// Views the input; construction is O(candidates), a call O(1).
class WaitingRequests {
 public:
  explicit WaitingRequests(const ScoreInput& input) noexcept;

  [[nodiscard]] double operator()(Slot slot) const noexcept {
    const TargetLoad& load = input_.loads[slot];
    return reports(load) ? reported(load) : silent(slot);
  }

  /// The least and the most of all candidates. O(1) where all report.
  [[nodiscard]] Range range() const noexcept;

 private:
  [[nodiscard]] bool reports(const TargetLoad& load) const noexcept {
    return load.reported.waiting && load.reported_times.waiting >= oldest_;
  }
  [[nodiscard]] static double reported(const TargetLoad& load) noexcept {
    return static_cast<double>(std::uint64_t{*load.reported.waiting} + load.unreported);
  }
  [[nodiscard]] double silent(Slot slot) const noexcept;

  const ScoreInput& input_;
  Nanoseconds oldest_;  // report that counts
  Range reported_;      // of those who report
  bool all_report_ = true;
  double usual_ = 0;       // mean of those who report
  double usual_sent_ = 0;  // the same; 0 where all do
};

}  // namespace kvroute::detail
