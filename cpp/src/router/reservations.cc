// Bookings: Router::Impl from a decision to its release.

#include <algorithm>
#include <bit>
#include <utility>

#include "kvroute/base/error.h"
#include "router/router_impl.h"

namespace kvroute {

using detail::Decision;

static_assert(sizeof(Pin) == sizeof(Booking::place));

ReservationHandle Router::Impl::reserve(const Request& request, std::string request_id) {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  Decision& decision = Decision::of_this_thread();
  decision.begin(request, options_.block_size);
  decision.find_eligible(request, targets_, log_.is_on());
  decision.eligibility().require_somebody(request, targets_);
  decision.hash(request, options_.block_size, indexes_);
  expire(now());
  LogNote note = log_note();
  const std::lock_guard load_lock(load_mutex_);
  (void)end_expired(1);
  std::string id = free_request_id(std::move(request_id));
  decision.match(targets_, indexes_);
  note.request_id = id;
  const Pick picked = pick(decision, request, note);
  const Slot slot = decision.eligibility().slots()[picked.position];
  return book(decision, request, slot, selection(decision, request, picked), std::move(id));
}

std::string Router::Impl::free_request_id(std::string wanted,
                                          std::initializer_list<std::string_view> ends) {
  const auto is_running = [&] {
    return std::ranges::any_of(
        ends, [&](std::string_view end) { return load_.is_running(wanted + std::string(end)); });
  };
  if (!wanted.empty()) {
    if (!is_running()) return wanted;
    throw InvalidArgument("request_id: expected one that is not running, got '" + wanted + "'");
  }
  do {
    wanted = "kvroute-" + std::to_string(++made_up_ids_);
  } while (is_running());
  return wanted;
}

ReservationHandle Router::Impl::book(const Decision& decision, const Request& request, Slot slot,
                                     Selection selection, std::string request_id) {
  ReservationHandle handle;
  handle.selection = std::move(selection);
  handle.request_id = request_id;
  handle.block_size = targets_.block_sizes()[slot];
  handle.seed = namespace_seed(request.name);
  const auto hashes = decision.hashes(handle.block_size);
  handle.local_hashes.assign(hashes.begin(), hashes.end());
  std::uint64_t unknown = 0;  // of the prompt's full blocks
  if (request.by_hashes) {
    unknown = full_blocks(decision.num_tokens(), handle.block_size) - hashes.size();
    handle.is_tail_known = hashes.size() * handle.block_size == decision.num_tokens();
  } else {
    const auto tail = request.token_ids.subspan(hashes.size() * handle.block_size);
    handle.tail.assign(tail.begin(), tail.end());
  }

  const std::uint64_t shared =
      decision.input(request, options_.block_size, targets_, nullptr, now())
          .cached_or_active_tokens(slot);
  PrefixTree& tree = *indexes_.find(handle.block_size);
  const PinResult pinned = tree.pin(slot, hashes);
  try {
    tree.predict(slot, hashes, now());
    const auto booked = load_.book(
        {.slot = slot,
         .request_id = std::move(request_id),
         .prompt_tokens = decision.num_tokens(),
         .prefill_tokens = request.phase == Phase::kDecode ? 0 : handle.selection.prefill_tokens,
         .shared_tokens = shared,
         .new_blocks = pinned.newly_active + unknown,
         .unknown_blocks = unknown,
         .block_size = handle.block_size,
         .expected_output_tokens = request.expected_output_tokens,
         .phase = request.phase,
         .place = std::bit_cast<std::uint64_t>(pinned.pin)},
        now());
    handle.id = booked.value();  // the id was free, and the lock is still held
  } catch (...) {                // out of memory: a pin without a booking would stay for ever
    (void)tree.unpin(slot, pinned.pin);
    throw;
  }
  return handle;
}

// What is left to do for a booking that the load model has ended. Under load_mutex_.
void Router::Impl::end(const Booking& booking) const {
  PrefixTree* const tree = indexes_.find(booking.block_size);
  const std::size_t unpinned = tree->unpin(booking.slot, std::bit_cast<Pin>(booking.place));
  load_.drop_blocks(booking.slot, unpinned + booking.unknown_blocks);
}

// Drops bookings that expired, so that no decision counts them, and makes room for `more`. Under
// load_mutex_. True if there were any: what was matched before may be active no more.
bool Router::Impl::end_expired(std::size_t more) const {
  const std::vector<Booking> expired = load_.end_expired(now(), more);
  for (const Booking& booking : expired) end(booking);
  return !expired.empty();
}

// The same of some of them, by itself. Not under load_mutex_.
bool Router::Impl::expire_bookings() const {
  const std::lock_guard lock(load_mutex_);
  return end_expired();
}

void Router::Impl::first_token(BookingId id) {
  const std::lock_guard lock(load_mutex_);
  load_.first_token(id, now());
}

void Router::Impl::progress(BookingId id, std::uint64_t output_tokens) {
  const std::lock_guard lock(load_mutex_);
  load_.progress(id, output_tokens, now());
}

bool Router::Impl::release(const ReservationHandle& handle,
                           std::span<const std::uint32_t> output_tokens) {
  const std::shared_lock lock(targets_mutex_);
  const std::lock_guard load_lock(load_mutex_);
  load_.progress(handle.id, output_tokens.size(), now());
  const auto booking = load_.release(handle.id, now());
  if (!booking) return false;
  end(*booking);
  const detail::Worker* const worker = targets_.find(targets_.target(booking->slot).worker);
  if (!output_tokens.empty() || (worker != nullptr && worker->bounded)) {
    remember(handle, booking->slot, output_tokens);
  }
  return true;
}

// What the request used on its engine has been used just now. The engine also holds the blocks that
// the output has filled, the prompt's last tokens before them; but the last token was never
// computed, since the request ended when it was sampled.
void Router::Impl::remember(const ReservationHandle& handle, Slot slot,
                            std::span<const std::uint32_t> output_tokens) {
  std::vector<std::uint32_t> tokens = handle.tail;
  if (!output_tokens.empty() && handle.is_tail_known) {
    tokens.insert(tokens.end(), output_tokens.begin(), output_tokens.end() - 1);
  }
  std::vector<std::uint64_t> hashes = handle.local_hashes;
  const std::size_t prompt = hashes.size();
  hashes.resize(prompt + full_blocks(tokens.size(), handle.block_size));
  hash_blocks(tokens, handle.block_size, handle.seed, std::span(hashes).subspan(prompt));
  indexes_.find(handle.block_size)->predict(slot, hashes, now());
}

void Router::Impl::update_load(const WorkerName& name, std::uint32_t dp_rank,
                               const EngineLoad& load) {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  const auto& slots = targets_.at(name, "worker").slots;
  if (dp_rank >= slots.size()) {
    throw UnknownWorker("dp_rank: expected 0 to " + std::to_string(slots.size() - 1) + " for " +
                        to_string(name) + ", got " + std::to_string(dp_rank));
  }
  const auto is_share = [](double value) { return value >= 0 && value <= 1; };  // not so: NaN
  if (load.kv_usage && !is_share(*load.kv_usage)) {
    throw InvalidArgument("kv_usage: expected a share from 0 to 1, got " +
                          std::to_string(*load.kv_usage));
  }
  const std::lock_guard load_lock(load_mutex_);
  load_.report(slots[dp_rank], load, now());
}

}  // namespace kvroute
