#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kvroute/policy/score_input.h"

namespace kvroute {

/// What a policy that balances by engines' queues makes of a target without statistics.
enum class StatsMissing : std::uint8_t {
  skip,         ///< it has no queue: left out
  zero,         ///< its statistics read as zeros; its bookings count
  round_robin,  ///< one such candidate, and queues are not used at all
};

/// Requests that each engine runs or has queued, as far as known:
///
///     queue = running + waiting + unfinished
///
/// of the engine's last report and, of the times it was chosen since then, those that are not known
/// to have ended (`TargetLoad::unfinished`): requests that came and went between two reports count
/// nowhere. Where nobody reports `running`, `queue = waiting + unreported`: without those that have
/// had their first token. Under `StatsMissing::zero`, of a target without statistics: its bookings,
/// all of which are newer than any report that counts.
///
/// A target has statistics while it has a fresh report of `waiting`, and of `running` unless no
/// candidate reports that: figures that count different things are not compared. Views the input;
/// construction is O(candidates).
class EngineQueues {
 public:
  EngineQueues(const ScoreInput& input, StatsMissing missing) noexcept;

  /// Absent: no statistics.
  [[nodiscard]] std::optional<double> of(Slot slot) const noexcept {
    const TargetLoad& load = loads_[slot];
    if (has_statistics(load)) {
      return static_cast<double>(std::uint64_t{*load.reported.waiting} +
                                 (running_ ? std::uint64_t{*load.reported.running} + load.unfinished
                                           : std::uint64_t{load.unreported}));
    }
    if (zero_) return static_cast<double>(load.requests);
    return std::nullopt;
  }
  [[nodiscard]] bool has_statistics(Slot slot) const noexcept {
    return has_statistics(loads_[slot]);
  }

 private:
  [[nodiscard]] bool has_statistics(const TargetLoad& load) const noexcept {
    return load.reported.waiting && load.reported_times.waiting >= oldest_ &&
           (!running_ || (load.reported.running && load.reported_times.running >= oldest_));
  }

  std::span<const TargetLoad> loads_;
  Nanoseconds oldest_;  // report that counts
  bool zero_;
  bool running_ = false;  // a candidate reports it
};

}  // namespace kvroute
