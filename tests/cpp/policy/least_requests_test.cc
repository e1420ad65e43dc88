#include "kvroute/policy/least_requests.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "kvroute/base/error.h"
#include "kvroute/policy/least_load.h"
#include "score_input_builder.h"

namespace kvroute {
namespace {

using Costs = std::vector<double>;

template <std::size_t kTargets>
std::array<int, kTargets> choices(const ScoreInputBuilder& builder, const Policy& policy, int n) {
  PickState state(1);
  std::array<int, kTargets> counts{};
  for (int i = 0; i < n; ++i) {
    ++counts.at(policy.pick(builder.input(), builder.costs(policy), state));
  }
  return counts;
}

TEST(LeastRequests, CountsBookingsAndBreaksTiesByTokensInUse) {
  ScoreInputBuilder builder(4);
  for (const Slot slot : {0U, 1U, 2U}) builder.loads[slot].requests = 2;
  builder.loads[3].requests = 3;
  builder.loads[0].prompt_blocks = 9;
  EXPECT_EQ(builder.costs(LeastRequests{}), (Costs{2, 2, 2, 3}));
  const auto counts = choices<4>(builder, LeastRequests{}, 10'000);
  EXPECT_EQ(counts[0] + counts[3], 0);
  EXPECT_NEAR(counts[1], 5'000, 250);
  EXPECT_FALSE(LeastRequests{}.needs_overlap());
}

TEST(PowerOfTwo, TakesTheIdlerOfTwo) {
  ScoreInputBuilder builder(3);
  for (Slot slot = 0; slot < 3; ++slot) builder.loads[slot].requests = slot;
  const auto policy = make_policy("power_of_two");
  EXPECT_FALSE(policy->needs_overlap());
  const auto counts = choices<3>(builder, *policy, 30'000);
  EXPECT_NEAR(counts[0], 20'000, 600);  // in two of three pairs
  EXPECT_NEAR(counts[1], 10'000, 600);
  EXPECT_EQ(counts[2], 0);
}

TEST(PowerOfTwo, ComparesByAnyPolicyWithCosts) {
  ScoreInputBuilder builder(2);
  builder.held = {0, 9};
  const auto policy = make_policy(PolicySpec("power_of_two", {{"of", {std::string("kv_cost")}}}));
  EXPECT_TRUE(policy->needs_overlap());
  EXPECT_EQ(builder.costs(*policy), (Costs{20, 11}));
  EXPECT_EQ(policy->terms(builder.input(), 1)[0].name, "prefill_cost");
  EXPECT_THROW(
      (void)make_policy(PolicySpec("power_of_two", {{"of", {std::string("round_robin")}}})),
      InvalidArgument);
}

TEST(LeastLoad, IsTheQueueInSecondsAndThePressureOfTheCache) {
  ScoreInputBuilder builder(3);
  builder.fleet.prefill.tokens_per_second = 1'000;
  builder.loads[0].prefill_tokens = 500;
  builder.measure_prefill(1, 2);  // half as fast
  builder.loads[1].prefill_tokens = 500;
  builder.report(0, {.waiting = 0, .running = {}, .kv_usage = 0.5});
  builder.report(1, {.waiting = 0, .running = {}, .kv_usage = 0.0});
  builder.report(2, {.waiting = 2, .running = {}, .kv_usage = 2.0});
  const Costs costs = builder.costs(LeastLoad{});
  EXPECT_DOUBLE_EQ(costs[0], 0.5 + 0.15);
  EXPECT_DOUBLE_EQ(costs[1], 1.0);
  EXPECT_DOUBLE_EQ(costs[2], 2.048 + 0.15 * 0.999 / (1 - 0.999));
  const LeastLoad fixed({.kv_pressure_weight = 0, .mean_prefill_tokens = 100, .throughput = 50});
  EXPECT_EQ(builder.costs(fixed), (Costs{10, 10, 4}));
}

TEST(LeastLoad, TakesTheMeanForAnUnreportedUsageAndBookingsWhereNobodyReports) {
  ScoreInputBuilder builder(3);
  builder.report(0, {.waiting = {}, .running = {}, .kv_usage = 0.75});
  builder.total_blocks = {0, 100, 0};
  builder.loads[1].prompt_blocks = 20;
  for (const double cost : builder.costs(LeastLoad{})) EXPECT_DOUBLE_EQ(cost, 0.15 * 3);
  EXPECT_EQ(LeastLoad{}.terms(builder.input(), 2)[4].value, 0.75);
  builder.loads[0].reported = {};
  for (const double cost : builder.costs(LeastLoad{})) EXPECT_DOUBLE_EQ(cost, 0.15 / 4);
}

TEST(LeastLoad, TakesTheMeanForAnUnreportedQueueAndAtLeastItsBookings) {
  ScoreInputBuilder builder(4);
  builder.report(0, {.waiting = 2, .running = {}, .kv_usage = 0.0});
  builder.report(1, {.waiting = 6, .running = {}, .kv_usage = 0.0});
  builder.report(2, {.waiting = {}, .running = {}, .kv_usage = 0.0});
  builder.loads[3].prefill_tokens = 500;
  const LeastLoad policy({.kv_pressure_weight = 0, .mean_prefill_tokens = 100, .throughput = 50});
  EXPECT_EQ(builder.costs(policy), (Costs{4, 12, 8, 10}));
  builder.loads[0].reported = builder.loads[1].reported = {};
  EXPECT_EQ(builder.costs(policy), (Costs{0, 0, 0, 10}));
}

}  // namespace
}  // namespace kvroute
