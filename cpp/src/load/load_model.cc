#include "kvroute/load/load_model.h"

#include <algorithm>
#include <utility>

namespace kvroute {
namespace {

constexpr std::size_t kMaxEndedAtOnce = 64;

// Blocks that `output_tokens` add to those that the prompt alone fills.
std::uint64_t grown_blocks(const Booking& booking, std::uint64_t output_tokens) {
  const std::uint64_t prompt = booking.prompt_tokens / booking.block_size;
  return (booking.prompt_tokens + output_tokens) / booking.block_size - prompt;
}

}  // namespace

void LoadModel::add_target(Slot slot) {
  if (slot >= loads_.size()) {
    histories_.resize(slot + 1);
    loads_.resize(slot + 1);
  }
  loads_[slot] = TargetLoad{};
  histories_[slot] = TargetHistory{};
  for (TargetLoad& load : loads_) load.picks = 0;
}

std::vector<Booking> LoadModel::remove_target(Slot slot) {
  std::vector<BookingId> ids;
  for (const auto& [id, running] : bookings_) {
    if (running.booking.slot == slot) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  std::vector<Booking> ended;
  ended.reserve(ids.size());
  for (const BookingId id : ids) {
    if (auto booking = release(id)) ended.push_back(std::move(*booking));
  }
  loads_[slot] = TargetLoad{};
  return ended;
}

std::optional<BookingId> LoadModel::book(Booking booking, Nanoseconds now) {
  if (ids_by_request_.contains(booking.request_id)) return std::nullopt;
  const BookingId id = next_id_++;
  const auto running = bookings_.emplace(id, Running{std::move(booking)}).first;
  const Booking& booked = running->second.booking;
  try {
    ids_by_request_.emplace(booked.request_id, id);
    deadlines_.push_back({after(now, seconds_to_ns(options_.reservation_ttl_seconds)), id});
  } catch (...) {  // out of memory: all or nothing
    ids_by_request_.erase(booked.request_id);
    bookings_.erase(running);
    throw;
  }
  TargetLoad& load = loads_[booked.slot];
  load.prefill_tokens += booked.prefill_tokens;
  load.prompt_blocks += booked.new_blocks;
  ++load.requests;
  compact_deadlines();
  return id;
}

void LoadModel::first_token(BookingId id) {
  const auto found = bookings_.find(id);
  if (found == bookings_.end() || !found->second.prefilling) return;
  found->second.prefilling = false;
  const Booking& booking = found->second.booking;
  loads_[booking.slot].prefill_tokens -= booking.prefill_tokens;
}

void LoadModel::progress(BookingId id, std::uint64_t output_tokens) {
  const auto found = bookings_.find(id);
  if (found == bookings_.end() || output_tokens <= found->second.output_tokens) return;
  Running& running = found->second;
  running.output_tokens = output_tokens;
  const std::uint64_t grown = grown_blocks(running.booking, output_tokens);
  loads_[running.booking.slot].output_blocks += grown - running.output_blocks;
  running.output_blocks = grown;
}

std::optional<Booking> LoadModel::release(BookingId id) {
  first_token(id);
  auto node = bookings_.extract(id);
  if (node.empty()) return std::nullopt;
  Running& running = node.mapped();
  TargetLoad& load = loads_[running.booking.slot];
  load.output_blocks -= running.output_blocks;
  --load.requests;
  ids_by_request_.erase(running.booking.request_id);
  return std::move(running.booking);
}

void LoadModel::drop_blocks(Slot slot, std::uint64_t blocks) {
  TargetLoad& load = loads_[slot];
  load.prompt_blocks -= std::min(load.prompt_blocks, blocks);
}

bool LoadModel::oldest_must_end(Nanoseconds now) const {
  return deadlines_.front().at <= now || bookings_.size() >= options_.max_bookings;
}

std::vector<Booking> LoadModel::end_expired(Nanoseconds now) {
  std::vector<Booking> ended;
  while (!deadlines_.empty() && ended.size() < kMaxEndedAtOnce && oldest_must_end(now)) {
    const BookingId id = deadlines_.front().id;
    deadlines_.pop_front();
    if (auto booking = release(id)) {
      ++expired_;
      ended.push_back(std::move(*booking));
    }
  }
  return ended;
}

// Ended bookings leave their deadlines behind; without this a long-lived booking at the front
// would let them pile up.
void LoadModel::compact_deadlines() {
  constexpr std::size_t kSlack = 1024;
  if (deadlines_.size() < 2 * bookings_.size() + kSlack) return;
  std::erase_if(deadlines_, [this](const Deadline& d) { return !bookings_.contains(d.id); });
}

void LoadModel::report(Slot slot, const EngineLoad& report, Nanoseconds now) {
  TargetLoad& load = loads_[slot];
  if (report.waiting) {
    load.reported.waiting = report.waiting;
    load.picks = 0;
  }
  if (report.running) load.reported.running = report.running;
  if (report.kv_usage) load.reported.kv_usage = report.kv_usage;
  load.reported_at = now;
  ++load.reports;
}

void LoadModel::note_pick(Slot slot) {
  ++loads_[slot].picks;
  ++loads_[slot].selections;
}

}  // namespace kvroute
