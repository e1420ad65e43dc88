#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"
#include "kvroute/load/booking.h"
#include "kvroute/load/fleet_load.h"
#include "kvroute/load/linked_list.h"
#include "kvroute/load/load_options.h"
#include "kvroute/load/target_load.h"

namespace kvroute {

/// What every target is doing: bookings of this router, what it measured of them, and reports of
/// the engines.
///
/// Bookings are moved by four calls: book, first_token, progress, release; the last three do
/// nothing for a booking that has ended, in whatever way. Bounded by `end_expired`: in count by
/// `max_bookings`, and in idleness by the time to live, which begins anew with each of these calls;
/// so a stream that tells of its progress never expires. `now` must not go back. Not
/// thread-safe; the router calls it under the lock that makes a decision and its booking one step.
/// All calls are O(1) but `remove_target` and `end_expired`, linear in what they end.
class LoadModel {
 public:
  /// \throws InvalidArgument as LoadOptions::check says.
  explicit LoadModel(const LoadOptions& options);
  LoadModel(const LoadModel&) = delete;
  LoadModel& operator=(const LoadModel&) = delete;
  ~LoadModel() = default;

  /// Starts a target afresh in `slot`, which must have none. Nothing changes for the others.
  void add_target(Slot slot, Nanoseconds now);

  /// Ends the target's bookings and forgets all else of it; nothing of them is measured. Returns
  /// the ended bookings, so that the caller can give up their places. Nothing without a target.
  [[nodiscard]] std::vector<Booking> remove_target(Slot slot);

  /// Books a request on a slot that has a target. Nullopt when its `request_id` is already running.
  [[nodiscard]] std::optional<BookingId> book(Booking booking, Nanoseconds now);
  [[nodiscard]] bool is_running(std::string_view request_id) const {
    return ids_by_request_.contains(request_id);
  }

  /// The prefill is done: it stops counting, and its time is measured.
  void first_token(BookingId id, Nanoseconds now);

  /// Cumulative count of output tokens. A lower count than before changes no load.
  void progress(BookingId id, std::uint64_t output_tokens, Nanoseconds now);

  /// Ends a booking; nullopt if it has ended before. Its prompt blocks stay counted until
  /// `drop_blocks`, since only the tree knows how many of them other bookings share. Its output and
  /// its time from the first token are measured, if it had one.
  [[nodiscard]] std::optional<Booking> release(BookingId id, Nanoseconds now);

  /// Prompt blocks of the target that no booking uses any more.
  void drop_blocks(Slot slot, std::uint64_t blocks);

  /// Ends the bookings of which nothing was heard for too long, and the longest silent of those
  /// that leave no room for `more` ones; at most 64 at a time, so that no decision pays for a long
  /// backlog. Returns them as `release` does; nothing is measured.
  [[nodiscard]] std::vector<Booking> end_expired(Nanoseconds now, std::size_t more);

  /// Takes over what an engine reports; absent fields keep their last value and its time. A report
  /// of `waiting` ends the counts of picks since the last one. Nothing without a target.
  void report(Slot slot, const EngineLoad& report, Nanoseconds now);

  /// The target was chosen for a request of which it must compute so many tokens. Before its
  /// `book`.
  void note_pick(Slot slot, std::uint64_t uncached_tokens, Nanoseconds now);

  /// State of every target, by slot; idle where there is none.
  [[nodiscard]] std::span<const TargetLoad> loads() const noexcept { return loads_; }
  [[nodiscard]] std::span<const TargetHistory> histories() const noexcept { return histories_; }
  /// By slot: another number after every change of its load or of its history.
  [[nodiscard]] std::span<const std::uint64_t> revisions() const noexcept { return revisions_; }
  [[nodiscard]] const FleetLoad& fleet() const noexcept { return fleet_; }
  [[nodiscard]] std::size_t bookings() const noexcept { return bookings_.size(); }
  [[nodiscard]] std::uint64_t expired() const noexcept { return expired_; }

 private:
  struct Running {
    Booking booking;
    BookingId id = 0;
    Nanoseconds booked_at = 0;
    Nanoseconds heard_at = 0;    // of the last call for it
    double prefill_seconds = 0;  // predicted
    bool prefilling = true;
    Nanoseconds first_token_at = 0;
    std::uint64_t output_tokens = 0;
    std::uint64_t output_blocks = 0;
    std::uint64_t expected_output_blocks = 0;  // that are still to come
    std::uint64_t report = 0;                  // of `waiting`, the last one before
    ListLinks<Running> by_silence;             // among all
    ListLinks<Running> in_phase;               // among those before, or after, their first token
  };
  using InPhase = LinkedList<Running, &Running::in_phase>;

  // What is known of a slot beside its load.
  struct Target {
    bool present = false;
    InPhase prefilling;
    InPhase decoding;
    Nanoseconds prefill_free_at = 0;  // the last first token, or end of a head without one
    std::uint64_t report = 0;         // number of the last one of `waiting`; 0: none
  };

  [[nodiscard]] bool has_target(Slot slot) const noexcept;
  TargetLoad& changing(Slot slot) noexcept;  // the load, under a new revision
  void begin_prefill(Running& running, Nanoseconds now);
  void hear(Running& running, Nanoseconds now) noexcept;
  void end_prefill(Running& running, Nanoseconds now);
  void measure_prefill(const Running& running, Nanoseconds now);
  [[nodiscard]] Booking end(Running& running, Nanoseconds now);

  LoadOptions options_;
  FleetLoad fleet_;
  std::vector<TargetLoad> loads_;         // by slot
  std::vector<TargetHistory> histories_;  // by slot
  std::vector<std::uint64_t> revisions_;  // by slot; apart, so that asking for all of them is quick
  std::vector<Target> targets_;           // by slot
  std::unordered_map<BookingId, Running> bookings_;
  std::unordered_map<std::string_view, BookingId> ids_by_request_;  // views of bookings_
  LinkedList<Running, &Running::by_silence> by_silence_;            // the longest silent first
  BookingId next_id_ = 1;
  std::uint64_t last_revision_ = 0;
  std::uint64_t expired_ = 0;
};

}  // namespace kvroute
