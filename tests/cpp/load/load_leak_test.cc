// A million random lifecycles: whatever is called in whatever order, the load model says what
// plain sums over its running bookings say, and in the end nothing.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kvroute/base/random.h"
#include "kvroute/load/load_model.h"
#include "reference_load.h"

namespace kvroute {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kLifecycles = 50'000;
#else
constexpr std::uint64_t kLifecycles = 1'000'000;
#endif

constexpr Slot kSlots = 8;
constexpr std::size_t kRecent = 400;     // ids that calls still come for, most of them ended
constexpr std::uint64_t kNames = 5'000;  // of requests; each is free again before its next turn
constexpr Nanoseconds kMillisecond = 1'000'000;
constexpr Nanoseconds kLifetime = 20'000 * kMillisecond;  // of a booking
constexpr std::size_t kMaxBookings = 300;
constexpr std::size_t kMaxEndedAtOnce = 64;

LoadOptions options() {
  LoadOptions options;
  options.reservation_ttl_seconds = ns_to_seconds(kLifetime);
  options.max_bookings = kMaxBookings;
  return options;
}

void expect_booked(const TargetLoad& load, const TargetLoad& reference) {
  EXPECT_EQ(load.requests, reference.requests);
  EXPECT_EQ(load.prefilling, reference.prefilling);
  EXPECT_EQ(load.prefill_tokens, reference.prefill_tokens);
  EXPECT_EQ(load.prompt_blocks, reference.prompt_blocks);
  EXPECT_EQ(load.output_blocks, reference.output_blocks);
  EXPECT_EQ(load.expected_output_blocks, reference.expected_output_blocks);
  EXPECT_NEAR(load.backlog_seconds, reference.backlog_seconds, 1e-9);
  EXPECT_EQ(load.head_seconds, reference.head_seconds);
  if (reference.prefilling > 0) {
    EXPECT_EQ(load.head_started, reference.head_started);
  } else {
    EXPECT_EQ(load.backlog_seconds, 0);
  }
}

/// A fleet whose targets come and go, and callers that forget, repeat and come late.
class Fleet {
 public:
  explicit Fleet(std::uint64_t seed) : random_(seed), load_(options()), reference_({}) {
    for (Slot slot = 0; slot < kSlots; ++slot) load_.add_target(slot, now_);
    present_.fill(true);
  }

  void step() {
    now_ += static_cast<Nanoseconds>(random_.below(20)) * kMillisecond;
    switch (random_.below(4)) {
      case 0: book(); break;
      case 1: {
        const BookingId id = some_id();
        load_.first_token(id, now_);
        reference_.first_token(id, now_);
        break;
      }
      case 2: {
        const BookingId id = some_id();
        const std::uint64_t tokens = random_.below(600);
        load_.progress(id, tokens, now_);
        reference_.progress(id, tokens, now_);
        break;
      }
      default: release(some_id());
    }
    if (random_.below(5'000) == 0) flap(static_cast<Slot>(random_.below(kSlots)));
  }

  void compare() const {
    ASSERT_EQ(load_.bookings(), reference_.running().size());
    const auto present = std::count(present_.begin(), present_.end(), true);
    ASSERT_EQ(load_.fleet().targets, static_cast<std::uint32_t>(present));
    for (Slot slot = 0; slot < kSlots; ++slot) {
      SCOPED_TRACE("slot " + std::to_string(slot));
      expect_booked(load_.loads()[slot], reference_.load(slot));
    }
  }

  void let_all_expire() {
    now_ += kLifetime;
    while (load_.bookings() > 0) expire();
  }

  [[nodiscard]] const LoadModel& load() const noexcept { return load_; }
  [[nodiscard]] std::uint64_t booked() const noexcept { return booked_; }

 private:
  void book() {
    expire();
    const auto slot = static_cast<Slot>(random_.below(kSlots));
    if (!present_.at(slot)) return;
    const std::uint64_t prompt = 1 + random_.below(3'000);
    Booking booking;
    booking.slot = slot;
    booking.request_id = "r" + std::to_string(booked_++ % kNames);
    booking.prompt_tokens = prompt;
    booking.prefill_tokens = random_.below(prompt + 1);
    booking.shared_tokens = random_.below(prompt + 1);
    booking.new_blocks = random_.below(prompt / 16 + 1);
    booking.block_size = 16;
    auto expected = static_cast<std::uint64_t>(load_.fleet().output_tokens.value() + 0.5);
    if (random_.below(2) == 0) {
      expected = random_.below(400);
      booking.expected_output_tokens = static_cast<std::uint32_t>(expected);
    }
    const auto id = load_.book(booking, now_);
    ASSERT_TRUE(id);
    ASSERT_FALSE(load_.book(booking, now_)) << "the name is running";
    reference_.book(*id, booking, expected, now_);
    recent_.at(booked_ % kRecent) = *id;
  }

  void release(BookingId id) {
    const auto ended = load_.release(id, now_);
    ASSERT_EQ(ended.has_value(), reference_.end(id, now_));
    if (ended) load_.drop_blocks(ended->slot, ended->new_blocks);
  }

  void expire() {
    const std::vector<Booking> all = load_.end_expired(now_, 1);
    for (const Booking& ended : all) {
      const BookingId id = reference_.longest_silent();
      const ReferenceLoad::Entry& silent = reference_.running().at(id);
      ASSERT_EQ(ended.request_id, silent.booking.request_id) << "the longest silent go first";
      ASSERT_TRUE(silent.heard_at + kLifetime <= now_ ||
                  reference_.running().size() >= kMaxBookings);
      load_.drop_blocks(ended.slot, ended.new_blocks);
      reference_.end(id, now_);
    }
    if (all.size() == kMaxEndedAtOnce || reference_.running().empty()) return;
    ASSERT_LT(reference_.running().size(), kMaxBookings);
    ASSERT_GT(reference_.running().at(reference_.longest_silent()).heard_at + kLifetime, now_);
  }

  // Leaves, or comes back.
  void flap(Slot slot) {
    if (!present_.at(slot)) {
      load_.add_target(slot, now_);
    } else {
      const auto ids = reference_.running_on(slot);
      ASSERT_EQ(load_.remove_target(slot).size(), ids.size());
      for (const BookingId id : ids) reference_.end(id, now_);
    }
    present_.at(slot) = !present_.at(slot);
  }

  BookingId some_id() { return recent_.at(random_.below(kRecent)); }

  Random random_;
  LoadModel load_;
  ReferenceLoad reference_;
  std::array<BookingId, kRecent> recent_{};
  std::array<bool, kSlots> present_{};
  std::uint64_t booked_ = 0;
  Nanoseconds now_ = 0;
};

TEST(LoadLeak, AMillionLifecyclesEndWithAllLoadsAtZero) {
  Fleet fleet(7);
  for (std::uint64_t step = 0; fleet.booked() < kLifecycles; ++step) {
    fleet.step();
    if (step % 997 != 0) continue;
    fleet.compare();
    ASSERT_FALSE(HasFailure()) << "at step " << step;
  }
  EXPECT_GT(fleet.load().expired(), kLifecycles / 10) << "forgotten bookings";
  fleet.let_all_expire();
  fleet.compare();
  for (const TargetLoad& load : fleet.load().loads()) expect_booked(load, {});
}

}  // namespace
}  // namespace kvroute
