#include "kvroute/policy/qps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "chosen.h"

namespace kvroute {
namespace {

constexpr Nanoseconds kSecond = 1'000'000'000;
constexpr double kWindow = 60;
using Costs = std::vector<double>;

void add_requests(ScoreInputBuilder& builder, Slot slot, int count, Nanoseconds at) {
  for (int i = 0; i < count; ++i) builder.histories[slot].requests.add(0, at, kWindow);
}

TEST(Qps, IsTheRateOverTheWindow) {
  ScoreInputBuilder builder(3);
  builder.now = 1000 * kSecond;
  add_requests(builder, 0, 30, 990 * kSecond);
  add_requests(builder, 1, 50, 900 * kSecond);
  add_requests(builder, 1, 12, 950 * kSecond);
  EXPECT_EQ(builder.costs(Qps{}), (Costs{0.5, 0.2, 0}));
}

TEST(Qps, ForgetsWhatIsOlderThanTheWindow) {
  ScoreInputBuilder builder(1);
  builder.now = 1000 * kSecond;
  add_requests(builder, 0, 50, 900 * kSecond);
  EXPECT_EQ(builder.costs(Qps{}), (Costs{0}));
}

TEST(Qps, CountsSecondsOfTheWarmUpByTheRamp) {
  ScoreInputBuilder builder(4);
  builder.now = 1000 * kSecond;
  const std::vector<Nanoseconds> ages{10, 30, 60, 75};
  // Of 30 seconds of warm-up: 10^2/60, 30/2, 60 - 15, and 60 less the 15 of the ramp that are
  // still in the window: half of them.
  const Costs seconds{100.0 / 60, 15, 45, 60 - 15 * 0.25};
  for (Slot slot = 0; slot < 4; ++slot) {
    builder.loads[slot].joined_at = builder.now - ages[slot] * kSecond;
    add_requests(builder, slot, 9, builder.now);
  }
  const Costs costs = builder.costs(Qps{30});
  for (Slot slot = 0; slot < 4; ++slot) EXPECT_DOUBLE_EQ(costs[slot], 9 / seconds[slot]) << slot;
}

TEST(Qps, CountsANewTargetAsZero) {
  ScoreInputBuilder builder(2);
  builder.now = 1000 * kSecond;
  builder.loads[1].joined_at = builder.now;
  add_requests(builder, 0, 1, builder.now);
  EXPECT_EQ(builder.costs(Qps{})[1], 0);
  EXPECT_EQ(times_chosen(Qps{}, builder, 10)[1], 10);
}

TEST(Qps, ComparesCountsOfTargetsThatJoinedJustNow) {
  ScoreInputBuilder builder(2);
  add_requests(builder, 0, 2, 0);
  add_requests(builder, 1, 1, 0);
  EXPECT_EQ(times_chosen(Qps{}, builder, 10)[1], 10);
}

// Eight targets at ten requests a second together for two minutes, then a ninth.
TEST(Qps, LetsANewTargetsShareGrowOverTheWarmUp) {
  ScoreInputBuilder builder(9);
  builder.candidates.pop_back();
  const Qps policy(30);
  PickState state(5);
  std::vector<int> of_the_new(9);  // by ten seconds since it joined
  int in_a_row = 0;
  int most_in_a_row = 0;
  for (int request = 0; request < 2100; ++request) {
    builder.now = request * kSecond / 10;
    if (request == 1200) {
      builder.candidates.push_back(8);
      builder.loads[8].joined_at = builder.now;
    }
    const Slot slot = chosen(policy, builder, state);
    add_requests(builder, slot, 1, builder.now);
    in_a_row = slot == 8 ? in_a_row + 1 : 0;
    most_in_a_row = std::max(most_in_a_row, in_a_row);
    if (slot == 8) ++of_the_new[static_cast<std::size_t>((request - 1200) / 100)];
  }
  // A fair share is 11 of 100.
  EXPECT_LE(of_the_new[0], 4);
  EXPECT_LT(of_the_new[0], of_the_new[1]);
  EXPECT_LE(of_the_new[1], 9);
  for (std::size_t i = 3; i < 9; ++i) EXPECT_NEAR(of_the_new[i], 11, 3) << i;
  EXPECT_LE(most_in_a_row, 2);
}

TEST(Qps, SpreadsOverAnIdleFleet) {
  const auto counts = times_chosen(Qps{}, ScoreInputBuilder(3), 3000);
  for (const int count : counts) EXPECT_NEAR(count, 1000, 120);
}

TEST(Qps, ReadsItsParameters) {
  ScoreInputBuilder builder(1);
  builder.now = 10 * kSecond;
  add_requests(builder, 0, 5, builder.now);
  EXPECT_EQ(builder.costs(*make_policy({"qps", {{"warm_up", {0.0}}}})), (Costs{0.5}));
  EXPECT_EQ(builder.costs(*make_policy({"qps", {{"warm_up", {20.0}}}})), (Costs{2}));
  EXPECT_NE(refusal_of({"qps", {{"warm_up", {-1.0}}}}), "");
}

}  // namespace
}  // namespace kvroute
