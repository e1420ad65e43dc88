#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "kvroute/load/load_model.h"

namespace kvroute {

/// What a load model must say of its bookings, by plain sums over those that run. Heads are kept
/// as the smallest id that still computes on a slot, since ids ascend.
class ReferenceLoad {
 public:
  struct Entry {
    Booking booking;
    Nanoseconds heard_at = 0;
    std::uint64_t heard = 0;  // in which turn, of all calls
    std::uint64_t expected_tokens = 0;
    std::uint64_t output_tokens = 0;
    bool prefilling = true;
  };

  explicit ReferenceLoad(PrefillModel prefill) : prefill_(prefill) {}

  void book(BookingId id, const Booking& booking, std::uint64_t expected_tokens, Nanoseconds now) {
    running_[id] = {booking, now, 0, expected_tokens, 0, true};
    hear(id, now);
    prefilling_[booking.slot].insert(id);
    look_at_head(booking.slot, now);
  }

  void first_token(BookingId id, Nanoseconds now) {
    const auto found = running_.find(id);
    if (found == running_.end()) return;
    hear(id, now);
    if (!found->second.prefilling) return;
    found->second.prefilling = false;
    leave_prefill(id, found->second.booking.slot, now);
  }

  void progress(BookingId id, std::uint64_t output_tokens, Nanoseconds now) {
    const auto found = running_.find(id);
    if (found == running_.end()) return;
    hear(id, now);
    found->second.output_tokens = std::max(found->second.output_tokens, output_tokens);
  }

  /// True if it was running.
  bool end(BookingId id, Nanoseconds now) {
    const auto found = running_.find(id);
    if (found == running_.end()) return false;
    leave_prefill(id, found->second.booking.slot, now);
    by_silence_.erase(found->second.heard);
    running_.erase(found);
    return true;
  }

  /// Of those that run, of which there must be one.
  [[nodiscard]] BookingId longest_silent() const { return by_silence_.begin()->second; }

  [[nodiscard]] std::vector<BookingId> running_on(Slot slot) const {
    std::vector<BookingId> ids;
    for (const auto& [id, entry] : running_) {
      if (entry.booking.slot == slot) ids.push_back(id);
    }
    return ids;
  }

  [[nodiscard]] const std::map<BookingId, Entry>& running() const noexcept { return running_; }

  /// The booked fields of a slot's load.
  [[nodiscard]] TargetLoad load(Slot slot) const {
    TargetLoad load;
    for (const auto& [id, entry] : running_) {
      if (entry.booking.slot == slot) add(entry, load);
    }
    const auto head = heads_.find(slot);
    if (head != heads_.end() && head->second.id) {
      load.head_seconds = seconds(running_.at(*head->second.id).booking);
      load.head_started = head->second.since;
    }
    return load;
  }

 private:
  struct Head {
    std::optional<BookingId> id;
    Nanoseconds since = 0;
  };

  [[nodiscard]] double seconds(const Booking& booking) const {
    return prefill_.seconds(booking.prompt_tokens, booking.shared_tokens);
  }

  void hear(BookingId id, Nanoseconds now) {
    Entry& entry = running_.at(id);
    by_silence_.erase(entry.heard);
    entry.heard_at = now;
    entry.heard = ++turns_;
    by_silence_[entry.heard] = id;
  }

  void add(const Entry& entry, TargetLoad& load) const {
    const Booking& booking = entry.booking;
    const auto blocks = [&](std::uint64_t tokens) { return tokens / booking.block_size; };
    const std::uint64_t now = blocks(booking.prompt_tokens + entry.output_tokens);
    const std::uint64_t at_end = blocks(booking.prompt_tokens + entry.expected_tokens);
    ++load.requests;
    load.prompt_blocks += booking.new_blocks;
    load.output_blocks += now - blocks(booking.prompt_tokens);
    load.expected_output_blocks += at_end > now ? at_end - now : 0;
    if (!entry.prefilling) return;
    ++load.prefilling;
    load.prefill_tokens += booking.prefill_tokens;
    load.backlog_seconds += seconds(booking);
  }

  void leave_prefill(BookingId id, Slot slot, Nanoseconds now) {
    prefilling_[slot].erase(id);
    look_at_head(slot, now);
  }

  void look_at_head(Slot slot, Nanoseconds now) {
    std::optional<BookingId> id;
    if (!prefilling_[slot].empty()) id = *prefilling_[slot].begin();
    if (heads_[slot].id != id) heads_[slot] = {id, now};
  }

  PrefillModel prefill_;
  std::map<BookingId, Entry> running_;
  std::map<std::uint64_t, BookingId> by_silence_;  // by the turn in which each was heard of
  std::uint64_t turns_ = 0;
  std::map<Slot, std::set<BookingId>> prefilling_;
  std::map<Slot, Head> heads_;
};

}  // namespace kvroute
