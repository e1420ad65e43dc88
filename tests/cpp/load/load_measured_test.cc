// What a load model measures of requests, predicts of their prefills, and remembers of picks.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "kvroute/base/error.h"
#include "kvroute/base/random.h"
#include "kvroute/load/load_model.h"

namespace kvroute {
namespace {

constexpr Nanoseconds kSecond = 1'000'000'000;

// 100 tokens a second: a prompt of 100 is predicted to take one second.
LoadOptions slow_engines() {
  LoadOptions options;
  options.prefill = {.tokens_per_second = 100, .attention_seconds = 0};
  return options;
}

struct LoadMeasured : testing::Test {
  LoadMeasured() : load(slow_engines()) {
    load.add_target(0, 0);
    load.add_target(1, 0);
  }

  BookingId book(std::uint64_t tokens, Nanoseconds at, Slot slot = 0, std::uint64_t shared = 0,
                 Phase phase = Phase::kWhole) {
    Booking booking;
    booking.phase = phase;
    booking.slot = slot;
    booking.request_id = std::to_string(++names);
    booking.prompt_tokens = tokens;
    booking.prefill_tokens = tokens - shared;
    booking.shared_tokens = shared;
    booking.block_size = 16;
    booking.expected_output_tokens = expected_output_tokens;
    return load.book(std::move(booking), at).value();
  }
  [[nodiscard]] const TargetLoad& target(Slot slot = 0) const { return load.loads()[slot]; }
  [[nodiscard]] double scale(Slot slot = 0) const { return target(slot).prefill_scale.value(-1); }

  LoadModel load;
  std::optional<std::uint32_t> expected_output_tokens;
  int names = 0;
};

TEST_F(LoadMeasured, BacklogIsThePredictedWorkOfWhatNeedsNoSharing) {
  book(100, 0);
  book(300, 0, 0, 100);
  book(100, 0, 0, 100);  // all of it is there
  EXPECT_EQ(target().prefilling, 3U);
  EXPECT_DOUBLE_EQ(target().backlog_seconds, 3);
  EXPECT_DOUBLE_EQ(target().head_seconds, 1);
}

TEST_F(LoadMeasured, TheHeadMovesOnWhenItsPrefillEndsInWhateverWay) {
  const BookingId a = book(100, 1 * kSecond);
  const BookingId b = book(200, 2 * kSecond);
  const BookingId c = book(300, 2 * kSecond);
  book(400, 2 * kSecond);
  EXPECT_EQ(target().head_started, 1 * kSecond);
  load.first_token(b, 3 * kSecond);  // not the head
  EXPECT_DOUBLE_EQ(target().head_seconds, 1);
  EXPECT_EQ(target().head_started, 1 * kSecond);
  load.first_token(a, 4 * kSecond);
  EXPECT_DOUBLE_EQ(target().head_seconds, 3);
  EXPECT_EQ(target().head_started, 4 * kSecond);
  EXPECT_TRUE(load.release(c, 5 * kSecond));
  EXPECT_DOUBLE_EQ(target().head_seconds, 4);
  EXPECT_EQ(target().head_started, 5 * kSecond);
  load.first_token(a, 6 * kSecond);
  EXPECT_EQ(target().head_started, 5 * kSecond);
}

TEST_F(LoadMeasured, WaitingForOthersIsNotMeasured) {
  const BookingId a = book(100, 0);
  const BookingId b = book(100, 0);
  load.first_token(a, 2 * kSecond);
  EXPECT_DOUBLE_EQ(scale(), 2);
  load.first_token(b, 6 * kSecond);
  EXPECT_DOUBLE_EQ(scale(), 3);
  const BookingId c = book(100, 10 * kSecond);  // after a pause
  load.first_token(c, 13 * kSecond);
  EXPECT_DOUBLE_EQ(scale(), 3);
  EXPECT_EQ(scale(1), -1);
  EXPECT_DOUBLE_EQ(load.fleet().prefill_scale.value(), 3);
}

TEST_F(LoadMeasured, PrefillsThatEndTogetherShareTheirTime) {
  const BookingId a = book(100, 0);
  const BookingId b = book(300, 0);
  load.first_token(b, 6 * kSecond);
  load.first_token(a, 6 * kSecond);
  EXPECT_DOUBLE_EQ(scale(), 1.5);
}

TEST_F(LoadMeasured, ACancelledHeadMakesRoomAndACancelledWaiterDoesNot) {
  const BookingId a = book(100, 0);
  const BookingId b = book(100, 0);
  const BookingId c = book(100, 0);
  EXPECT_TRUE(load.release(a, 1 * kSecond));
  EXPECT_TRUE(load.release(c, 2 * kSecond));
  EXPECT_TRUE(target().prefill_scale.empty());
  load.first_token(b, 4 * kSecond);
  EXPECT_DOUBLE_EQ(scale(), 3);
}

TEST_F(LoadMeasured, TheScaleIsHeldWithinAnEighthAndEight) {
  load.first_token(book(100, 0), 100 * kSecond);
  EXPECT_DOUBLE_EQ(scale(), 8);
  load.first_token(book(100, 200 * kSecond, 1), 200 * kSecond);
  EXPECT_DOUBLE_EQ(scale(1), 0.125);
}

TEST_F(LoadMeasured, WhatWasMeasuredLongAgoWeighsLessInTheScale) {
  load.first_token(book(100, 0), 8 * kSecond);
  load.first_token(book(100, 27 * kSecond), 28 * kSecond);
  EXPECT_DOUBLE_EQ(scale(), (8 + 1) / 2.0);
  load.first_token(book(100, 67 * kSecond), 68 * kSecond);  // 40 s: a half
  EXPECT_DOUBLE_EQ(scale(), (0.5 * 9 + 1) / 2);
  load.first_token(book(100, 127 * kSecond), 128 * kSecond);  // 60 s: nothing
  EXPECT_DOUBLE_EQ(scale(), 1);
}

TEST_F(LoadMeasured, AFullHitPredictsNothingAndIsNotMeasured) {
  load.first_token(book(100, 0, 0, 100), kSecond);
  EXPECT_TRUE(target().prefill_scale.empty());
  EXPECT_EQ(load.histories()[0].first_tokens.total(kSecond, 60).count, 1U);
}

// Measured by predicted seconds of the last 64 or so: with weights that fade by 1/64.
TEST_F(LoadMeasured, TheScaleIsARatioOfFadingSums) {
  Random random(3);
  double measured = 0;
  double predicted = 0;
  Nanoseconds now = 0;
  for (int i = 1; i <= 500; ++i) {
    const std::uint64_t tokens = 1 + random.below(1'000);
    const double seconds = static_cast<double>(tokens) / 100 * (0.5 + random.uniform());
    const BookingId id = book(tokens, now);
    now += seconds_to_ns(seconds);
    load.first_token(id, now);
    const double share = 1.0 / std::min(i, 64);
    measured += (seconds - measured) * share;
    predicted += (static_cast<double>(tokens) / 100 - predicted) * share;
    ASSERT_NEAR(scale(), measured / predicted, 1e-6);
  }
}

TEST_F(LoadMeasured, OutputAndDecodeTimeAreOfReleasedRequestsWithAFirstToken) {
  const BookingId a = book(100, 0);
  const BookingId b = book(100, 0);
  const BookingId c = book(100, 0);
  const BookingId d = book(100, 0, 1);
  load.first_token(a, kSecond);
  load.progress(a, 200, kSecond);
  load.first_token(b, kSecond);
  load.progress(c, 900, kSecond);
  load.first_token(d, kSecond);
  load.progress(d, 900, kSecond);
  EXPECT_TRUE(load.release(a, 3 * kSecond));
  EXPECT_TRUE(load.release(b, 5 * kSecond));  // nobody told its output
  EXPECT_TRUE(load.release(c, 9 * kSecond));  // no first token
  EXPECT_EQ(load.remove_target(1).size(), 1U);
  EXPECT_DOUBLE_EQ(load.fleet().output_tokens.value(), 200);
  EXPECT_DOUBLE_EQ(load.fleet().decode_seconds.value(), 3);
}

TEST_F(LoadMeasured, APrefillLegExpectsOneTokenAndMeasuresNoDecoding) {
  expected_output_tokens = 1'000;
  const BookingId leg = book(160, 0, 0, 0, Phase::kPrefill);
  EXPECT_EQ(target().expected_output_blocks, 0U);
  load.first_token(leg, 2 * kSecond);
  EXPECT_GT(scale(), 0);
  load.progress(leg, 1, 2 * kSecond);
  EXPECT_TRUE(load.release(leg, 3 * kSecond));
  EXPECT_EQ(load.fleet().decode_seconds.value(-1), -1);
  EXPECT_EQ(load.fleet().output_tokens.value(-1), -1);
}

TEST_F(LoadMeasured, ADecodeLegIsNoArrivalAndMeasuresNoPrefill) {
  load.report(0, {.waiting = 0, .running = 0, .kv_usage = 0}, 0);
  load.note_pick(0, 100, 0);
  const BookingId leg = book(100, 0, 0, 0, Phase::kDecode);
  EXPECT_EQ(target().prefilling, 0U);
  EXPECT_EQ(target().backlog_seconds, 0);
  EXPECT_EQ(target().unreported, 0U) << "nothing waits for its first token";
  EXPECT_EQ(target().unfinished, 1U);
  load.first_token(leg, kSecond);
  EXPECT_EQ(scale(), -1);
  EXPECT_EQ(load.fleet().prefill_seconds.value(-1), -1);
  EXPECT_EQ(load.fleet().arrivals.per_second(2 * kSecond, 32), 0);
  load.progress(leg, 50, 2 * kSecond);
  EXPECT_TRUE(load.release(leg, 5 * kSecond));
  EXPECT_EQ(load.fleet().decode_seconds.value(-1), 5);
  EXPECT_EQ(target().unfinished, 0U);
}

TEST_F(LoadMeasured, WhatExpiresIsNotMeasured) {
  load.first_token(book(100, 0), kSecond);
  EXPECT_EQ(load.end_expired(601 * kSecond, 0).size(), 1U);
  EXPECT_TRUE(load.fleet().decode_seconds.empty());
}

TEST_F(LoadMeasured, ExpectedOutputIsTheCallersElseTheMeanAndShrinksAsItComes) {
  expected_output_tokens = 64;
  const BookingId a = book(160, 0);
  EXPECT_EQ(target().expected_output_blocks, 4U);
  load.progress(a, 40, 0);
  EXPECT_EQ(target().expected_output_blocks, 2U);
  EXPECT_EQ(target().output_blocks, 2U);
  load.progress(a, 320, 0);
  EXPECT_EQ(target().expected_output_blocks, 0U);
  EXPECT_EQ(target().output_blocks, 20U);
  load.first_token(a, kSecond);
  EXPECT_TRUE(load.release(a, kSecond));
  expected_output_tokens.reset();
  const BookingId b = book(160, kSecond);
  EXPECT_EQ(target().expected_output_blocks, 20U) << "the mean of what ended";
  EXPECT_TRUE(load.release(b, kSecond));
  EXPECT_EQ(target().expected_output_blocks, 0U);
}

TEST_F(LoadMeasured, ArrivalsAreCountedByTargetAndFleet) {
  for (int i = 0; i < 10; ++i) book(200, i * kSecond, static_cast<Slot>(i % 2));
  EXPECT_DOUBLE_EQ(target().arrivals.per_second(9 * kSecond, kArrivalMemory), 0.5);
  EXPECT_DOUBLE_EQ(load.fleet().arrivals.per_second(9 * kSecond, 64), 1);
  EXPECT_DOUBLE_EQ(load.fleet().arrivals_per_target(9 * kSecond), 0.5);
  EXPECT_DOUBLE_EQ(target(1).prefill_seconds.value(), 2);
  EXPECT_DOUBLE_EQ(load.fleet().prefill_seconds.value(), 2);
}

TEST_F(LoadMeasured, TheFleetCountsItsTargetsAndRemembersInProportion) {
  EXPECT_EQ(load.fleet().targets, 2U);
  load.add_target(5, 7 * kSecond);
  EXPECT_EQ(load.fleet().targets, 3U);
  EXPECT_EQ(load.fleet().arrival_memory, 3 * kArrivalMemory);
  EXPECT_EQ(target(5).joined_at, 7 * kSecond);
  EXPECT_TRUE(load.remove_target(5).empty());
  EXPECT_TRUE(load.remove_target(5).empty());
  EXPECT_TRUE(load.remove_target(3).empty()) << "never had one";
  EXPECT_EQ(load.fleet().targets, 2U);
}

TEST_F(LoadMeasured, PicksFadeAndLeaveTheWindow) {
  load.note_pick(0, 100, 0);
  load.note_pick(0, 300, 30 * kSecond);
  const double faded = std::exp(-1.0);
  EXPECT_DOUBLE_EQ(target().recent_requests.value(30 * kSecond, 30), 1 + faded);
  EXPECT_DOUBLE_EQ(target().recent_tokens.value(30 * kSecond, 30), 300 + 100 * faded);
  EXPECT_EQ(target().selections, 2U);
  EXPECT_EQ(load.histories()[0].requests.total(30 * kSecond, 60).sum, 400);
  EXPECT_EQ(load.histories()[0].requests.total(80 * kSecond, 60).sum, 300);
}

TEST_F(LoadMeasured, FirstTokensAreCountedFromTheBooking) {
  const BookingId a = book(100, 0);
  const BookingId b = book(100, kSecond);
  load.first_token(a, 4 * kSecond);
  load.first_token(b, 6 * kSecond);
  load.first_token(b, 8 * kSecond);
  const auto total = load.histories()[0].first_tokens.total(6 * kSecond, 60);
  EXPECT_EQ(total.count, 2U);
  EXPECT_DOUBLE_EQ(total.mean(), 4.5);
}

TEST_F(LoadMeasured, AnotherTargetOfTheSlotInheritsNothing) {
  const BookingId a = book(100, 0);
  const BookingId b = book(100, 0);
  load.first_token(a, kSecond);
  load.note_pick(0, 100, kSecond);
  EXPECT_EQ(load.remove_target(0).size(), 2U);
  load.report(0, {.waiting = 9, .running = 9, .kv_usage = 0.9}, kSecond);
  load.add_target(0, 2 * kSecond);
  EXPECT_EQ(target().reports, 0U) << "a report for the target that has left";
  load.first_token(b, 3 * kSecond);
  load.progress(a, 1'000, 3 * kSecond);
  EXPECT_FALSE(load.release(a, 3 * kSecond));
  EXPECT_FALSE(load.release(b, 3 * kSecond));
  EXPECT_EQ(target().selections, 0U);
  EXPECT_EQ(target().output_blocks, 0U);
  EXPECT_TRUE(target().prefill_scale.empty());
  EXPECT_TRUE(target().prefill_seconds.empty());
  EXPECT_EQ(target().recent_tokens.value(3 * kSecond, 30), 0);
  EXPECT_EQ(load.histories()[0].first_tokens.total(3 * kSecond, 60).count, 0U);
  EXPECT_EQ(load.histories()[0].requests.total(3 * kSecond, 60).count, 0U);
  load.first_token(book(100, 3 * kSecond), 5 * kSecond);
  EXPECT_DOUBLE_EQ(scale(), 2) << "measured from its own booking";
}

TEST(LoadOptions, RefusesWhatIsOutOfRange) {
  const auto refused = [](auto change) {
    LoadOptions options;
    change(options);
    EXPECT_THROW(LoadModel{options}, InvalidArgument);
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  refused([](LoadOptions& o) { o.prefill.tokens_per_second = 0; });
  refused([&](LoadOptions& o) { o.prefill.tokens_per_second = nan; });
  refused([](LoadOptions& o) { o.prefill.attention_seconds = -1e-9; });
  refused([](LoadOptions& o) { o.recent_time_constant = 0; });
  refused([](LoadOptions& o) { o.window_seconds = -1; });
  refused([&](LoadOptions& o) { o.report_lifetime_seconds = nan; });
  refused([](LoadOptions& o) { o.reservation_ttl_seconds = 2e9; });
  refused([](LoadOptions& o) { o.max_bookings = 0; });
  EXPECT_NO_THROW(LoadModel{LoadOptions{}});
}

}  // namespace
}  // namespace kvroute
