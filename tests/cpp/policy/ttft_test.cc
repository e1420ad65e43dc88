#include "kvroute/policy/ttft.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

#include "kvroute/policy/preble.h"
#include "score_input_builder.h"

namespace kvroute {
namespace {

using Costs = std::vector<double>;
constexpr Nanoseconds kSecond = 1'000'000'000;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// 160 tokens take 1 s, attention left out.
ScoreInputBuilder slow_fleet(std::size_t targets) {
  ScoreInputBuilder builder(targets);
  builder.fleet.prefill = {.tokens_per_second = 160, .attention_seconds = 0};
  builder.now = 100 * kSecond;
  return builder;
}

TEST(Ttft, IsTheQueueThatIsLeftAndThePrefillOfTheUncached) {
  ScoreInputBuilder builder = slow_fleet(3);
  builder.held = {5, 0, 0};
  builder.active = {0, 10, 0};  // in flight is not cached
  builder.loads[2].prefilling = 2;
  builder.loads[2].backlog_seconds = 3;
  builder.loads[2].head_seconds = 2;
  builder.loads[2].head_started = 99 * kSecond;
  EXPECT_EQ(builder.costs(Ttft{}), (Costs{0.5, 1, 3}));
  builder.measure_prefill(2, 0.5);
  EXPECT_EQ(builder.costs(Ttft{})[2], 0.5 * 3 - 1 + 0.5);
  EXPECT_EQ(make_policy("conductor")->name(), "ttft");
}

TEST(Ttft, TrustsAMeasuredSpeedByHowMuchWasMeasuredAndHowLongAgo) {
  ScoreInputBuilder builder = slow_fleet(6);
  builder.fleet.prefill_scale.add(2, 64);
  const std::array<int, 6> first_tokens{64, 32, 16, 1, 64, 16};
  for (Slot slot = 0; slot < 6; ++slot) builder.measure_prefill(slot, 6, first_tokens[slot]);
  builder.loads[4].prefill_measured_at -= 45 * kSecond;
  builder.loads[5].prefill_measured_at -= 45 * kSecond;
  const Costs expected{6, 6, 4, 2 + 4.0 / 32, 3.5, 2.75};
  const Costs costs = builder.costs(Ttft{});
  for (Slot slot = 0; slot < 6; ++slot) EXPECT_DOUBLE_EQ(costs[slot], expected[slot]);
}

// Between equal engines measurements differ by chance.
TEST(Ttft, GivesWhatPredictionsCannotTellApartToWhoWasChosenLeastOfLate) {
  ScoreInputBuilder builder = slow_fleet(5);
  const std::vector<double> costs{1, 1.04, 1.03, 1.06, 1.02};
  const std::vector<double> recent{3, 1, 2, 0, 1};
  builder.now += 1000 * kSecond;  // none of them is new
  for (Slot slot = 0; slot < 5; ++slot) {
    builder.loads[slot].recent_requests.add(recent[slot], builder.now, 30);
  }
  builder.loads[1].prompt_blocks = 9;
  PickState state(1);
  EXPECT_EQ(Ttft{}.pick(builder.input(), costs, state), 4U);
  builder.loads[4].recent_requests.add(1, builder.now, 30);
  EXPECT_EQ(Ttft{}.pick(builder.input(), costs, state), 1U);
  const std::vector<double> nothing_to_compute{0, 0.0005, 0.002, 0.002, 0.002};
  EXPECT_EQ(Ttft{}.pick(builder.input(), nothing_to_compute, state), 1U);
  EXPECT_EQ(Ttft{}.pick(builder.input(), Costs(5, kInfinity), state), 3U);
}

TEST(Ttft, ExplainsTermsThatAddUpToTheCost) {
  ScoreInputBuilder builder = slow_fleet(1);
  builder.loads[0].prefilling = 1;
  builder.loads[0].backlog_seconds = 3;
  builder.fleet.prefill_scale.add(2, 64);
  const auto terms = Ttft{}.terms(builder.input(), 0);
  EXPECT_EQ(terms[0].value + terms[1].value, builder.costs(Ttft{})[0]);
  EXPECT_EQ(terms[0].value, 6);
}

TEST(LMetric, MultipliesNewTokensByTheBatch) {
  ScoreInputBuilder builder(3);
  builder.held = {0, 5, 10};
  builder.loads[1].requests = 3;
  builder.loads[2].requests = 7;
  EXPECT_EQ(builder.costs(LMetric{}), (Costs{160, 80 * 4, 8}));
}

TEST(Preble, AddsRecentLoadEvictionAndPrefill) {
  ScoreInputBuilder builder = slow_fleet(2);
  builder.fleet.decode_seconds.add(4, 64);
  builder.held = {4, 2};
  builder.histories[0].requests.add(320, 90 * kSecond, 60);
  builder.histories[0].requests.add(160, 95 * kSecond, 60);
  builder.histories[1].requests.add(1'600, 20 * kSecond, 60);  // too long ago
  const Costs costs = builder.costs(Preble({.reuse = 0.5}));
  EXPECT_DOUBLE_EQ(costs[0], (480.0 / 160 + 2 * 4) + 0.5 * 0.6 + 0.6);
  EXPECT_DOUBLE_EQ(costs[1], 0.5 * 0.8 + 0.8);
}

TEST(Preble, ExploitsWhereMoreIsCachedThanNot) {
  ScoreInputBuilder builder = slow_fleet(3);
  builder.held = {6, 5, 6};
  builder.histories[0].requests.add(16'000, 90 * kSecond, 60);
  const Costs costs = builder.costs(Preble({.reuse = 0}));
  EXPECT_DOUBLE_EQ(costs[0], 100 + 0.4);
  EXPECT_EQ(costs[1], kInfinity);
  EXPECT_DOUBLE_EQ(costs[2], 0.4);
  builder.held = {5, 0, 5};  // half of it: explore
  EXPECT_EQ(builder.costs(Preble({.reuse = 0}))[1], 1);
}

}  // namespace
}  // namespace kvroute
