// LoadModel: a booking's course from its booking to its end.

#include <algorithm>
#include <cmath>
#include <utility>

#include "kvroute/load/load_model.h"

namespace kvroute {
namespace {

constexpr std::size_t kMaxEndedAtOnce = 64;
constexpr double kMeasured = 64;     // requests that a measured mean remembers
constexpr double kMaxScale = 8;      // of a prefill scale, and its inverse the least
constexpr double kMaxPrefill = 1e6;  // seconds; beyond, sums of them would lose the others

// Blocks that `output_tokens` add to those that the prompt alone fills.
std::uint64_t grown_blocks(const Booking& booking, std::uint64_t output_tokens) {
  const std::uint64_t size = booking.block_size;
  return output_tokens / size + (booking.prompt_tokens % size + output_tokens % size) / size;
}

double seconds_between(Nanoseconds from, Nanoseconds to) {
  return ns_to_seconds(std::max<Nanoseconds>(to - from, 0));
}

}  // namespace

std::optional<BookingId> LoadModel::book(Booking booking, Nanoseconds now) {
  if (ids_by_request_.contains(booking.request_id)) return std::nullopt;
  const BookingId id = next_id_++;
  const auto entry = bookings_.try_emplace(id).first;
  Running& running = entry->second;
  running.booking = std::move(booking);
  try {
    ids_by_request_.emplace(running.booking.request_id, id);
  } catch (...) {  // out of memory: all or nothing
    bookings_.erase(entry);
    throw;
  }
  const Booking& booked = running.booking;
  running.id = id;
  running.booked_at = now;
  running.heard_at = now;
  const auto output = booked.phase == Phase::kPrefill ? std::uint64_t{1}
                      : booked.expected_output_tokens
                          ? std::uint64_t{*booked.expected_output_tokens}
                          : static_cast<std::uint64_t>(std::llround(fleet_.output_tokens.value()));
  running.expected_output_blocks = grown_blocks(booked, output);
  running.report = targets_[booked.slot].report;

  TargetLoad& load = changing(booked.slot);
  load.prompt_blocks += booked.new_blocks;
  load.expected_output_blocks += running.expected_output_blocks;
  ++load.requests;
  if (booked.phase == Phase::kDecode) {
    running.prefilling = false;
    running.first_token_at = now;
    targets_[booked.slot].decoding.push_back(running);
    if (load.unreported > 0) --load.unreported;  // nothing waits for its first token
  } else {
    begin_prefill(running, now);
  }
  by_silence_.push_back(running);

  if (booked.phase == Phase::kDecode) return id;  // no prompt to compute has arrived
  load.arrivals.add(now, kArrivalMemory);
  load.prefill_seconds.add(running.prefill_seconds, kArrivalMemory);
  fleet_.arrivals.add(now, fleet_.arrival_memory);
  fleet_.prefill_seconds.add(running.prefill_seconds, fleet_.arrival_memory);
  return id;
}

// It waits behind those that compute already.
void LoadModel::begin_prefill(Running& running, Nanoseconds now) {
  const Booking& booked = running.booking;
  running.prefill_seconds =
      std::min(fleet_.prefill.seconds(booked.prompt_tokens, booked.shared_tokens), kMaxPrefill);
  TargetLoad& load = changing(booked.slot);
  load.prefill_tokens += booked.prefill_tokens;
  load.backlog_seconds += running.prefill_seconds;
  if (load.prefilling++ == 0) {
    load.head_seconds = running.prefill_seconds;
    load.head_started = now;
  }
  targets_[booked.slot].prefilling.push_back(running);
}

void LoadModel::hear(Running& running, Nanoseconds now) noexcept {
  by_silence_.remove(running);
  running.heard_at = now;
  by_silence_.push_back(running);
}

void LoadModel::first_token(BookingId id, Nanoseconds now) {
  const auto found = bookings_.find(id);
  if (found == bookings_.end()) return;
  Running& running = found->second;
  hear(running, now);
  if (!running.prefilling) return;
  Target& target = targets_[running.booking.slot];
  measure_prefill(running, now);
  end_prefill(running, now);
  target.prefill_free_at = now;
  target.decoding.push_back(running);
  running.prefilling = false;
  running.first_token_at = now;
}

// Prefills that an engine computes together give their first tokens at once: the first of them is
// measured with the time of all, the others with none, and the ratio of sums is right.
void LoadModel::measure_prefill(const Running& running, Nanoseconds now) {
  const Slot slot = running.booking.slot;
  const Nanoseconds free_at = targets_[slot].prefill_free_at;
  histories_[slot].first_tokens.add(seconds_between(running.booked_at, now), now,
                                    fleet_.window_seconds);
  const double predicted = running.prefill_seconds;
  if (predicted <= 0) return;
  const double ratio = seconds_between(std::max(running.booked_at, free_at), now) / predicted;
  TargetLoad& load = changing(slot);
  load.prefill_scale.fade(fleet_.freshness(load.prefill_measured_at, now));
  load.prefill_measured_at = now;
  for (RunningMean* const scale : {&load.prefill_scale, &fleet_.prefill_scale}) {
    scale->add(ratio, kMeasured, predicted);
    scale->hold(1 / kMaxScale, kMaxScale);
  }
}

// Its prefill counts no more, and the next one is at the head.
void LoadModel::end_prefill(Running& running, Nanoseconds now) {
  TargetLoad& load = changing(running.booking.slot);
  Target& target = targets_[running.booking.slot];
  const bool was_head = target.prefilling.front() == &running;
  target.prefilling.remove(running);
  if (running.report == target.report && load.unreported > 0) --load.unreported;
  load.prefill_tokens -= running.booking.prefill_tokens;
  // Sums of floating-point numbers keep a rest; where nothing is left, it goes.
  load.backlog_seconds =
      --load.prefilling == 0 ? 0 : std::max(0.0, load.backlog_seconds - running.prefill_seconds);
  if (!was_head) return;
  const Running* const head = target.prefilling.front();
  load.head_seconds = head != nullptr ? head->prefill_seconds : 0;
  load.head_started = now;
  target.prefill_free_at = now;
}

void LoadModel::progress(BookingId id, std::uint64_t output_tokens, Nanoseconds now) {
  const auto found = bookings_.find(id);
  if (found == bookings_.end()) return;
  Running& running = found->second;
  hear(running, now);
  if (output_tokens <= running.output_tokens) return;
  TargetLoad& load = changing(running.booking.slot);
  running.output_tokens = output_tokens;
  const std::uint64_t grown = grown_blocks(running.booking, output_tokens) - running.output_blocks;
  const std::uint64_t came = std::min(grown, running.expected_output_blocks);
  running.output_blocks += grown;
  running.expected_output_blocks -= came;
  load.output_blocks += grown;
  load.expected_output_blocks -= came;
}

std::optional<Booking> LoadModel::release(BookingId id, Nanoseconds now) {
  const auto found = bookings_.find(id);
  if (found == bookings_.end()) return std::nullopt;
  Running& running = found->second;
  if (!running.prefilling && running.booking.phase != Phase::kPrefill) {
    fleet_.decode_seconds.add(seconds_between(running.first_token_at, now), kMeasured);
    if (running.output_tokens > 0) {
      fleet_.output_tokens.add(static_cast<double>(running.output_tokens), kMeasured);
    }
  }
  return end(running, now);
}

// In whatever way; nothing is measured.
Booking LoadModel::end(Running& running, Nanoseconds now) {
  const Slot slot = running.booking.slot;
  if (running.prefilling) {
    end_prefill(running, now);
  } else {
    targets_[slot].decoding.remove(running);
  }
  TargetLoad& load = changing(slot);
  load.output_blocks -= running.output_blocks;
  load.expected_output_blocks -= running.expected_output_blocks;
  --load.requests;
  if (running.report == targets_[slot].report && load.unfinished > 0) --load.unfinished;
  by_silence_.remove(running);
  ids_by_request_.erase(running.booking.request_id);
  Booking booking = std::move(running.booking);
  bookings_.erase(running.id);
  return booking;
}

std::vector<Booking> LoadModel::end_expired(Nanoseconds now, std::size_t more) {
  std::vector<Booking> ended;
  const Nanoseconds lifetime = seconds_to_ns(options_.reservation_ttl_seconds);
  const auto must_end = [&](const Running* silent) {
    return silent != nullptr && (after(silent->heard_at, lifetime) <= now ||
                                 bookings_.size() + more > options_.max_bookings);
  };
  if (!must_end(by_silence_.front())) return ended;
  ended.reserve(kMaxEndedAtOnce);
  while (ended.size() < kMaxEndedAtOnce && must_end(by_silence_.front())) {
    ended.push_back(end(*by_silence_.front(), now));
    ++expired_;
  }
  return ended;
}

}  // namespace kvroute
