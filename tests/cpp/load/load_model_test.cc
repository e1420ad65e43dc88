#include "kvroute/load/load_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kvroute/base/random.h"

namespace kvroute {
namespace {

constexpr Nanoseconds kSecond = 1'000'000'000;

Booking request(std::string id, Slot slot = 0, std::uint64_t prefill = 100,
                std::uint64_t blocks = 10) {
  return {.slot = slot,
          .request_id = std::move(id),
          .prompt_tokens = 170,
          .prefill_tokens = prefill,
          .new_blocks = blocks,
          .block_size = 16,
          .expected_output_tokens = {},
          .place = 77};
}

struct TwoTargets : LoadModel {
  explicit TwoTargets(const LoadOptions& options = {}) : LoadModel(options) {
    add_target(0, 0);
    add_target(1, 0);
  }
};

TEST(LoadModel, BooksPrefillBlocksAndRequests) {
  TwoTargets load;
  ASSERT_TRUE(load.book(request("a"), 0));
  ASSERT_TRUE(load.book(request("b", 1, 5, 2), 0));
  EXPECT_EQ(load.loads()[0].prefill_tokens, 100U);
  EXPECT_EQ(load.loads()[0].active_blocks(), 10U);
  EXPECT_EQ(load.loads()[0].requests, 1U);
  EXPECT_EQ(load.loads()[1].prefill_tokens, 5U);
}

TEST(LoadModel, RefusesARequestIdThatIsRunningAndTakesItAfterwards) {
  TwoTargets load;
  const auto id = load.book(request("a"), 0);
  EXPECT_FALSE(load.book(request("a", 1), 0));
  EXPECT_EQ(load.loads()[1].requests, 0U);
  EXPECT_TRUE(load.release(*id, 0));
  EXPECT_TRUE(load.book(request("a", 1), 0));
}

TEST(LoadModel, FirstTokenEndsThePrefillOnce) {
  TwoTargets load;
  const auto a = load.book(request("a"), 0);
  ASSERT_TRUE(load.book(request("b"), 0));
  load.first_token(*a, 0);
  load.first_token(*a, 0);
  EXPECT_EQ(load.loads()[0].prefill_tokens, 100U);
  EXPECT_TRUE(load.release(*a, 0));
  EXPECT_EQ(load.loads()[0].prefill_tokens, 100U);
}

TEST(LoadModel, ProgressGrowsByFullBlocksAndNeverGoesBack) {
  TwoTargets load;
  const auto id = load.book(request("a"), 0);  // 170 tokens: 10 blocks and 10 tokens
  load.progress(*id, 5, 0);
  EXPECT_EQ(load.loads()[0].output_blocks, 0U);
  load.progress(*id, 6, 0);
  EXPECT_EQ(load.loads()[0].output_blocks, 1U);
  load.progress(*id, 40, 0);
  EXPECT_EQ(load.loads()[0].output_blocks, 3U);
  load.progress(*id, 7, 0);
  EXPECT_EQ(load.loads()[0].output_blocks, 3U);
  EXPECT_TRUE(load.release(*id, 0));
  EXPECT_EQ(load.loads()[0].output_blocks, 0U);
}

TEST(LoadModel, ReleaseIsOnceAndGivesBackThePlace) {
  TwoTargets load;
  const auto id = load.book(request("a"), 0);
  const auto ended = load.release(*id, 0);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->place, 77U);
  EXPECT_FALSE(load.release(*id, 0));
  load.first_token(*id, 0);
  load.progress(*id, 1000, 0);
  load.drop_blocks(0, ended->new_blocks);
  EXPECT_EQ(load.loads()[0].requests, 0U);
  EXPECT_EQ(load.loads()[0].prefill_tokens, 0U);
  EXPECT_EQ(load.loads()[0].active_blocks(), 0U);
}

TEST(LoadModel, DropsBookingsThatAreTooOld) {
  TwoTargets load({.reservation_ttl_seconds = 10, .max_bookings = 100});
  ASSERT_TRUE(load.book(request("old"), 0));
  ASSERT_TRUE(load.book(request("young"), 5 * kSecond));
  EXPECT_TRUE(load.end_expired(9 * kSecond, 1).empty());
  const auto ended = load.end_expired(10 * kSecond, 1);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].request_id, "old");
  EXPECT_EQ(load.expired(), 1U);
  EXPECT_EQ(load.bookings(), 1U);
}

TEST(LoadModel, KeepsABookingThatIsHeardOf) {
  TwoTargets load({.reservation_ttl_seconds = 10, .max_bookings = 2});
  const auto stream = load.book(request("stream"), 0);
  ASSERT_TRUE(load.book(request("silent"), 2 * kSecond));
  load.first_token(*stream, 3 * kSecond);
  for (int call = 1; call < 100; ++call) {
    const Nanoseconds now = 9 * call * kSecond;
    load.progress(*stream, 5, now);  // the count need not grow
    for (const auto& ended : load.end_expired(now, 0)) EXPECT_EQ(ended.request_id, "silent");
  }
  EXPECT_EQ(load.bookings(), 1U);
  EXPECT_EQ(load.expired(), 1U);
  ASSERT_TRUE(load.book(request("later"), 899 * kSecond));
  load.progress(*stream, 6, 899 * kSecond);
  EXPECT_EQ(load.end_expired(899 * kSecond, 1).at(0).request_id, "later") << "the longest silent";
  EXPECT_EQ(load.end_expired(909 * kSecond, 0).size(), 1U) << "it has fallen silent";
}

TEST(LoadModel, DropsTheOldestBookingWhenThereAreTooMany) {
  TwoTargets load({.reservation_ttl_seconds = 10, .max_bookings = 2});
  ASSERT_TRUE(load.book(request("a"), 0));
  ASSERT_TRUE(load.book(request("b"), 1));
  EXPECT_TRUE(load.end_expired(1, 0).empty()) << "no one more is to be booked";
  const auto ended = load.end_expired(1, 1);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].request_id, "a");
}

TEST(LoadModel, ATargetThatReturnsInheritsNothing) {
  TwoTargets load;
  const auto a = load.book(request("a"), 0);
  ASSERT_TRUE(load.book(request("b", 1), 0));
  load.report(0, {.waiting = 3, .running = 1, .kv_usage = 0.5}, 0);
  EXPECT_EQ(load.remove_target(0).size(), 1U);
  load.add_target(0, 0);
  EXPECT_FALSE(load.release(*a, 0));
  EXPECT_EQ(load.loads()[0].requests, 0U);
  EXPECT_FALSE(load.loads()[0].reported.waiting);
  EXPECT_EQ(load.loads()[1].requests, 1U);
}

TEST(LoadModel, ANewTargetLeavesTheOthersCountsAlone) {
  TwoTargets load;
  load.note_pick(0, 10, 0);
  load.add_target(2, 0);
  EXPECT_EQ(load.loads()[0].unreported, 1U);
  EXPECT_EQ(load.loads()[0].unfinished, 1U);
  EXPECT_EQ(load.loads()[0].selections, 1U);
}

TEST(LoadModel, CountsPicksThatAReportCannotKnowUntilTheyEnd) {
  TwoTargets load;
  const auto counts = [&] {
    return std::pair(load.loads()[0].unreported, load.loads()[0].unfinished);
  };
  const auto pick_and_book = [&](std::string id) {
    load.note_pick(0, 100, 0);
    return *load.book(request(std::move(id)), 0);
  };
  const BookingId before = pick_and_book("before");
  load.report(0, {.waiting = 1, .running = {}, .kv_usage = {}}, 0);
  EXPECT_EQ(counts(), std::pair(0U, 0U));
  const BookingId a = pick_and_book("a");
  const BookingId b = pick_and_book("b");
  load.note_pick(0, 100, 0);  // selected alone
  EXPECT_EQ(counts(), std::pair(3U, 3U));
  load.first_token(before, 0);  // was counted by the report
  EXPECT_TRUE(load.release(before, 0));
  EXPECT_EQ(counts(), std::pair(3U, 3U));
  load.first_token(a, 0);
  EXPECT_EQ(counts(), std::pair(2U, 3U));
  EXPECT_TRUE(load.release(a, 0));
  EXPECT_EQ(counts(), std::pair(2U, 2U));
  EXPECT_TRUE(load.release(b, 0));
  EXPECT_EQ(counts(), std::pair(1U, 1U));
  load.report(0, {.waiting = {}, .running = 3, .kv_usage = {}}, 0);
  EXPECT_EQ(counts(), std::pair(1U, 1U));
  load.report(0, {.waiting = 0, .running = {}, .kv_usage = {}}, 0);
  EXPECT_EQ(counts(), std::pair(0U, 0U));
}

TEST(LoadModel, AReportKeepsWhatItLeavesOutAndWaitingEndsTheCountsOfPicks) {
  TwoTargets load;
  load.report(0, {.waiting = 3, .running = 1, .kv_usage = 0.5}, kSecond);
  load.note_pick(0, 10, 0);
  load.note_pick(0, 10, 0);
  load.report(0, {.waiting = {}, .running = {}, .kv_usage = 0.6}, 2 * kSecond);
  EXPECT_EQ(load.loads()[0].reported.waiting, 3U);
  EXPECT_EQ(load.loads()[0].reported.kv_usage, 0.6);
  EXPECT_EQ(load.loads()[0].unfinished, 2U);
  load.report(0, {.waiting = 4, .running = {}, .kv_usage = {}}, 3 * kSecond);
  EXPECT_EQ(load.loads()[0].unfinished, 0U);
  EXPECT_EQ(load.loads()[0].selections, 2U);
  EXPECT_EQ(load.loads()[0].reported_at, 3 * kSecond);
}

TEST(LoadModel, AFigureThatIsReportedNoMoreAgesBesideTheOthers) {
  TwoTargets load;
  load.report(0, {.waiting = 3, .running = 1, .kv_usage = 0.5}, kSecond);
  load.report(0, {.waiting = {}, .running = {}, .kv_usage = 0.6}, 30 * kSecond);
  load.report(0, {.waiting = {}, .running = 2, .kv_usage = {}}, 50 * kSecond);
  const TargetLoad& target = load.loads()[0];
  EXPECT_EQ(target.reported_within(60 * kSecond, 61 * kSecond).waiting, 3U);
  const EngineLoad later = target.reported_within(60 * kSecond, 62 * kSecond);
  EXPECT_EQ(later.waiting, std::nullopt);
  EXPECT_EQ(later.running, 2U);
  EXPECT_EQ(later.kv_usage, 0.6);
  EXPECT_EQ(target.reported_within(60 * kSecond, 91 * kSecond).kv_usage, std::nullopt);
  EXPECT_EQ(target.reported_within(60 * kSecond, 91 * kSecond).running, 2U);
  EXPECT_EQ(target.reported_at, 50 * kSecond);
}

// Whatever is done in whatever order, the sums equal those over what is running.
TEST(LoadModel, EqualsTheSumOverItsRunningBookings) {
  struct Running {
    BookingId id = 0;
    std::uint64_t prefill = 0;
    Slot slot = 0;
  };
  Random random(11);
  TwoTargets load({.reservation_ttl_seconds = 50, .max_bookings = 40});
  std::map<std::string, Running> running;  // by request id
  std::vector<BookingId> ids{0};           // of all bookings ever, ended ones too
  Nanoseconds now = 0;
  for (int step = 0; step < 20'000; ++step) {
    now += static_cast<Nanoseconds>(random.below(2)) * kSecond;
    for (const auto& ended : load.end_expired(now, 1)) running.erase(ended.request_id);
    const std::size_t recent = std::min<std::size_t>(ids.size(), 60);
    const BookingId some = ids[ids.size() - 1 - random.below(recent)];
    const auto found = std::find_if(running.begin(), running.end(),
                                    [&](const auto& entry) { return entry.second.id == some; });
    switch (random.below(3)) {
      case 0: {
        const std::string name = "r" + std::to_string(step);
        const auto slot = static_cast<Slot>(random.below(2));
        const std::uint64_t prefill = random.below(500);
        const auto id = load.book(request(name, slot, prefill), now);
        ASSERT_TRUE(id);
        ids.push_back(*id);
        running[name] = {*id, prefill, slot};
        break;
      }
      case 1:
        load.first_token(some, now);
        if (found != running.end()) found->second.prefill = 0;
        break;
      default:
        ASSERT_EQ(load.release(some, now).has_value(), found != running.end());
        if (found != running.end()) running.erase(found);
    }
    ASSERT_EQ(load.bookings(), running.size());
    std::array<std::uint64_t, 2> prefill{};
    std::array<std::uint32_t, 2> requests{};
    for (const auto& [name, entry] : running) {
      prefill.at(entry.slot) += entry.prefill;
      ++requests.at(entry.slot);
    }
    for (Slot slot = 0; slot < 2; ++slot) {
      ASSERT_EQ(load.loads()[slot].prefill_tokens, prefill.at(slot));
      ASSERT_EQ(load.loads()[slot].requests, requests.at(slot));
    }
  }
}

}  // namespace
}  // namespace kvroute
