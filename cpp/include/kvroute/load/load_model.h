#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"
#include "kvroute/load/fleet_load.h"
#include "kvroute/load/target_load.h"

namespace kvroute {

/// Names one booking for ever: never reused, so that a late or second release cannot hit another.
using BookingId = std::uint64_t;

/// One running request's load on its target.
struct Booking {
  Slot slot = 0;
  std::string request_id;  ///< unique among running bookings
  std::uint64_t prompt_tokens = 0;
  std::uint64_t prefill_tokens = 0;  ///< the prompt's uncached tokens
  std::uint64_t new_blocks = 0;      ///< prompt blocks that no other booking there shares
  std::uint32_t block_size = 1;      ///< of the target; positive
  std::uint64_t place = 0;           ///< the request's place in the prefix tree; opaque here
};

struct LoadOptions {
  double reservation_ttl_seconds = 600.0;  ///< age at which a booking nobody released is dropped
  std::size_t max_bookings = 1U << 20;     ///< beyond, the oldest booking is dropped
};

/// What every target is doing: bookings of this router, and reports of the engines.
///
/// Bookings are moved by four calls: book, first_token, progress, release; the last three do
/// nothing for a booking that has ended. Bounded: in age by the time to live, in count by
/// `max_bookings`, both enforced when something is booked. Not thread-safe; the router calls it
/// under the lock that makes a decision and its booking one step. All calls are O(1) but
/// `end_target` and `end_expired`, which are linear in what they end.
class LoadModel {
 public:
  explicit LoadModel(LoadOptions options) : options_(options) {}

  /// Starts a target afresh in `slot`. Picks since the last report begin anew for all targets, so
  /// that one without a history is not preferred until it has caught up.
  void add_target(Slot slot);

  /// Ends the target's bookings and forgets its reports. Returns the ended bookings, so that the
  /// caller can give up their places.
  [[nodiscard]] std::vector<Booking> remove_target(Slot slot);

  /// Books a request. Nullopt when its `request_id` is already running.
  [[nodiscard]] std::optional<BookingId> book(Booking booking, Nanoseconds now);
  [[nodiscard]] bool is_running(const std::string& request_id) const {
    return ids_by_request_.contains(request_id);
  }

  /// The prefill is done: its tokens stop counting.
  void first_token(BookingId id);

  /// Cumulative count of output tokens. A lower count than before changes nothing.
  void progress(BookingId id, std::uint64_t output_tokens);

  /// Ends a booking; nullopt if it has ended before. Its prompt blocks stay counted until
  /// `drop_blocks`, since only the tree knows how many of them other bookings share.
  [[nodiscard]] std::optional<Booking> release(BookingId id);

  /// Prompt blocks of the target that no booking uses any more.
  void drop_blocks(Slot slot, std::uint64_t blocks);

  /// Ends the bookings that are too old, or too many for one more; at most 64 at a time, so that
  /// no decision pays for a long backlog. Returns them as `release` does.
  [[nodiscard]] std::vector<Booking> end_expired(Nanoseconds now);

  /// Takes over what an engine reports; absent fields keep their last value. A report of `waiting`
  /// ends the count of picks since the last one.
  void report(Slot slot, const EngineLoad& report, Nanoseconds now);

  /// The target was chosen.
  void note_pick(Slot slot);

  /// State of every target, by slot.
  [[nodiscard]] std::span<const TargetLoad> loads() const noexcept { return loads_; }
  [[nodiscard]] std::span<const TargetHistory> histories() const noexcept { return histories_; }
  [[nodiscard]] const FleetLoad& fleet() const noexcept { return fleet_; }
  [[nodiscard]] std::size_t bookings() const noexcept { return bookings_.size(); }
  [[nodiscard]] std::uint64_t expired() const noexcept { return expired_; }

 private:
  struct Running {
    Booking booking;
    std::uint64_t output_tokens = 0;
    std::uint64_t output_blocks = 0;
    bool prefilling = true;
  };
  struct Deadline {
    Nanoseconds at;
    BookingId id;
  };

  [[nodiscard]] bool oldest_must_end(Nanoseconds now) const;
  void compact_deadlines();

  LoadOptions options_;
  FleetLoad fleet_;
  std::vector<TargetLoad> loads_;
  std::vector<TargetHistory> histories_;
  std::unordered_map<BookingId, Running> bookings_;
  std::unordered_map<std::string, BookingId> ids_by_request_;
  std::deque<Deadline> deadlines_;  // in order of booking; entries of ended bookings are skipped
  BookingId next_id_ = 1;
  std::uint64_t expired_ = 0;
};

}  // namespace kvroute
