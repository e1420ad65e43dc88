#include "kvroute/policy/kv_delay.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <string>
#include <vector>

#include "score_input_builder.h"

namespace kvroute {
namespace {

using Costs = std::vector<double>;
constexpr Nanoseconds kSecond = 1'000'000'000;

/// 160 tokens take 1 s at 160 tokens/s, attention left out.
ScoreInputBuilder slow_fleet(std::size_t targets) {
  ScoreInputBuilder builder(targets);
  builder.fleet.prefill = {.tokens_per_second = 160, .attention_seconds = 0};
  return builder;
}

/// `rate` arrivals a second, the last one now.
void arrive(ArrivalRate& arrivals, double rate, Nanoseconds now) {
  arrivals.add(now - seconds_to_ns(1 / rate), 32);
  arrivals.add(now, 32);
}

std::map<std::string, double> terms_of(const ScoreInputBuilder& builder, Slot slot) {
  std::map<std::string, double> terms;
  const KvDelay policy;
  for (const CostTerm& term : policy.terms(builder.input(), slot)) {
    terms.emplace(term.name, term.value);
  }
  return terms;
}

TEST(KvDelay, OfAnIdleFleetIsThePrefillOfWhatIsNeitherCachedNorInFlight) {
  ScoreInputBuilder builder = slow_fleet(4);
  builder.held = {0, 5, 0, 2};
  builder.active = {0, 0, 10, 5};
  EXPECT_EQ(builder.costs(KvDelay{}), (Costs{1, 0.5, 0, 0.5}));
}

TEST(KvDelay, CountsAttentionOverCachedTokens) {
  ScoreInputBuilder builder = slow_fleet(2);
  builder.fleet.prefill.attention_seconds = 1e-3;
  builder.held = {0, 5};
  EXPECT_DOUBLE_EQ(builder.costs(KvDelay{})[0], 1 + 1e-3 * 160 * 160 / 2);
  EXPECT_DOUBLE_EQ(builder.costs(KvDelay{})[1], 0.5 + 1e-3 * (160 * 160 - 80 * 80) / 2);
}

TEST(KvDelay, WaitsForTheBacklogLessWhatItsHeadHasDone) {
  ScoreInputBuilder builder = slow_fleet(4);
  builder.now = 100 * kSecond;
  for (Slot slot = 0; slot < 3; ++slot) {
    builder.loads[slot].prefilling = 2;
    builder.loads[slot].backlog_seconds = 7;
    builder.loads[slot].head_seconds = 4;
  }
  builder.loads[0].head_started = 100 * kSecond;
  builder.loads[1].head_started = 97 * kSecond;
  builder.loads[2].head_started = 50 * kSecond;  // no more than the head's own work is done
  EXPECT_EQ(builder.costs(KvDelay{}), (Costs{7 + 1, 4 + 1, 3 + 1, 1}));
}

TEST(KvDelay, ComparesSecondsThatPassedWithWhatTheHeadTakesOnThatTarget) {
  ScoreInputBuilder builder = slow_fleet(4);
  builder.now = 100 * kSecond;
  const double started[] = {100, 98, 96, 90};  // 2 predicted seconds take 6 there
  for (Slot slot = 0; slot < 4; ++slot) {
    builder.measure_prefill(slot, 3);
    builder.loads[slot].prefilling = 2;
    builder.loads[slot].backlog_seconds = 5;
    builder.loads[slot].head_seconds = 2;
    builder.loads[slot].head_started = seconds_to_ns(started[slot]);
  }
  EXPECT_EQ(builder.costs(KvDelay{}), (Costs{15 + 3, 13 + 3, 11 + 3, 9 + 3}));
}

TEST(KvDelay, ScalesByTheTargetsMeasurementsElseTheFleetsWithinAnEighthAndEight) {
  ScoreInputBuilder builder = slow_fleet(4);
  builder.now = 100 * kSecond;
  builder.measure_prefill(0, 3);
  builder.measure_prefill(1, 100);
  builder.measure_prefill(2, 0);
  EXPECT_EQ(builder.costs(KvDelay{}), (Costs{3, 8, 0.125, 1}));
  builder.fleet.prefill_scale.add(2, 64);
  builder.loads[3].prefilling = 1;
  builder.loads[3].backlog_seconds = 5;
  builder.loads[3].head_started = builder.now;
  EXPECT_EQ(builder.costs(KvDelay{})[3], 2 * 5 + 2);
}

TEST(KvDelay, WaitsForRoomAboveFourFifthsOfTheBlocks) {
  ScoreInputBuilder builder = slow_fleet(4);
  builder.fleet.decode_seconds.add(20, 64);
  builder.fleet.output_tokens.add(32, 64);  // 2 blocks
  builder.total_blocks = {100, 100, 0, 100};
  for (TargetLoad& load : builder.loads) {
    load.prompt_blocks = 60;
    load.output_blocks = 10;
    load.expected_output_blocks = 8;
  }
  builder.loads[3].prompt_blocks = 10;
  builder.active = {0, 10, 0, 0};
  // 60 + 10 + 8 booked, 10 new ones but where they are in use, and 2 of output: 90 and 80.
  const Costs costs = builder.costs(KvDelay{});
  EXPECT_NEAR(costs[0], 20 * 0.1 + 1, 1e-12);
  EXPECT_EQ(costs[1], 0);  // all its blocks are in flight
  EXPECT_EQ(costs[2], 1);  // its size is not known
  EXPECT_EQ(costs[3], 1);
  builder.expected_output_tokens = 192;  // 12 blocks
  EXPECT_NEAR(builder.costs(KvDelay{})[1], 20 * 0.1, 1e-12);
}

TEST(KvDelay, AddsTheDelayOfThoseBehind) {
  ScoreInputBuilder builder = slow_fleet(2);
  builder.now = 100 * kSecond;
  builder.fleet.prefill_seconds.add(0.25, 64);
  arrive(builder.fleet.arrivals, 4, builder.now);  // 2 a target: utilization 1/2
  builder.loads[0].prefilling = 1;
  builder.loads[0].backlog_seconds = 3;
  builder.loads[0].head_started = builder.now;
  arrive(builder.loads[1].arrivals, 1, builder.now);
  builder.loads[1].prefill_seconds.add(0.5, 64);
  const double fleet = 0.75 * 2 / (1 - 0.5);
  const double own = 0.25 * 1 / (1 - 0.5);
  const Costs costs = builder.costs(KvDelay{});
  EXPECT_NEAR(costs[0], 3 + 1 + fleet * (3 * 1 + 0.5), 1e-9);
  EXPECT_NEAR(costs[1], 1 + (fleet + own) * 0.5, 1e-9);
}

TEST(KvDelay, HoldsTheUtilizationBelowOne) {
  ScoreInputBuilder builder = slow_fleet(1);
  builder.now = 100 * kSecond;
  builder.fleet.prefill_seconds.add(9, 64);
  arrive(builder.fleet.arrivals, 1, builder.now);
  EXPECT_NEAR(builder.costs(KvDelay{})[0], 1 + 0.75 / (1 - 0.9) / 2, 1e-9);
}

TEST(KvDelay, PrefersTheLongerQueueWithTheCacheOnlyWhileItIsShortEnough) {
  ScoreInputBuilder builder = slow_fleet(2);
  builder.held = {9, 0};  // 0.1 s against 1 s
  builder.loads[0].prefilling = 1;
  builder.loads[0].backlog_seconds = 0.8;
  builder.loads[0].head_seconds = 0.8;
  EXPECT_LT(builder.costs(KvDelay{})[0], builder.costs(KvDelay{})[1]);
  builder.loads[0].backlog_seconds = 1;
  EXPECT_GT(builder.costs(KvDelay{})[0], builder.costs(KvDelay{})[1]);
}

TEST(KvDelay, BreaksTiesByTheLeastTokensInUseThenEvenly) {
  ScoreInputBuilder builder = slow_fleet(4);
  builder.loads[0].prompt_blocks = 9;
  builder.loads[1].prompt_blocks = 3;
  builder.loads[2].prompt_blocks = 4;
  builder.loads[3].prompt_blocks = 3;
  const KvDelay policy;
  PickState state(1);
  std::array<int, 4> counts{};
  for (int i = 0; i < 10'000; ++i) {
    ++counts.at(policy.pick(builder.input(), builder.costs(policy), state));
  }
  EXPECT_EQ(counts[0] + counts[2], 0);
  EXPECT_NEAR(counts[1], 5'000, 250);
}

TEST(KvDelay, LetsATemperatureDecideInsteadOfItsRuleForTies) {
  ScoreInputBuilder builder = slow_fleet(2);
  builder.loads[0].prompt_blocks = 9;
  builder.overrides.temperature = 1;
  const KvDelay policy;
  PickState state(1);
  std::array<int, 2> counts{};
  for (int i = 0; i < 1'000; ++i) {
    ++counts.at(policy.pick(builder.input(), builder.costs(policy), state));
  }
  EXPECT_NEAR(counts[0], 500, 100);
}

TEST(KvDelay, ExplainsTermsThatAddUpToTheCost) {
  ScoreInputBuilder builder = slow_fleet(1);
  builder.now = 100 * kSecond;
  builder.fleet.prefill_seconds.add(0.25, 64);
  builder.fleet.decode_seconds.add(20, 64);
  arrive(builder.fleet.arrivals, 2, builder.now);
  builder.total_blocks = {10};
  builder.loads[0].prefilling = 1;
  builder.loads[0].backlog_seconds = 3;
  auto terms = terms_of(builder, 0);
  EXPECT_EQ(terms["room_seconds"], 20 * (1 - 0.8));
  EXPECT_DOUBLE_EQ(terms["backlog_seconds"] + terms["room_seconds"] + terms["own_seconds"] +
                       terms["delay_of_others_seconds"],
                   builder.costs(KvDelay{})[0]);
}

}  // namespace
}  // namespace kvroute
