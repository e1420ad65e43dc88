#include "kvroute/policy/cache_aware.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

#include "score_input_builder.h"

namespace kvroute {
namespace {

using Costs = std::vector<double>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string_view decider_of(const ScoreInputBuilder& builder, const Policy& policy) {
  return policy.decider(builder.input()).name();
}

std::size_t choose(const ScoreInputBuilder& builder, const Policy& policy) {
  PickState state(1);
  return policy.decider(builder.input()).pick(builder.input(), builder.costs(policy), state);
}

TEST(CacheAware, TakesTheBestMatchAboveItsThreshold) {
  ScoreInputBuilder builder(3);
  builder.held = {2, 4, 0};
  EXPECT_EQ(builder.costs(CacheAware{}), (Costs{-0.2, -0.4, 0}));
  builder.held = {2, 3, 0};  // at the threshold
  EXPECT_EQ(decider_of(builder, CacheAware{}), "least_requests");
}

TEST(CacheAware, BreaksTiesByRequests) {
  ScoreInputBuilder builder(3);
  builder.held = {9, 9, 8};
  builder.loads[0].requests = 1;
  EXPECT_EQ(choose(builder, CacheAware{}), 1U);
}

TEST(CacheAware, FollowsLoadAloneWhereBothMarginsAreExceeded) {
  ScoreInputBuilder builder(2);
  builder.held = {9, 0};
  builder.loads[0].requests = 130;
  builder.loads[1].requests = 66;
  EXPECT_EQ(decider_of(builder, CacheAware{}), "cache_aware");  // 64 more
  builder.loads[0].requests = 131;
  EXPECT_EQ(decider_of(builder, CacheAware{}), "least_requests");
  EXPECT_EQ(choose(builder, CacheAware{}), 1U);
  builder.loads[0].requests = 1'065;
  builder.loads[1].requests = 1'000;
  EXPECT_EQ(decider_of(builder, CacheAware{}), "cache_aware");  // not 1.5 times
  builder.loads[0].requests = 65;
  builder.loads[1].requests = 0;
  EXPECT_EQ(decider_of(builder, CacheAware{}), "least_requests");
  const CacheAware never(
      {.cache_threshold = 0.3, .balance_abs = kInfinity, .balance_rel = kInfinity});
  EXPECT_EQ(decider_of(builder, never), "cache_aware");
}

TEST(Spill, KeepsTheChoiceUntilItIsHotByBothMargins) {
  ScoreInputBuilder builder(4);
  builder.held = {9, 8, 0, 0};
  const auto policy = make_policy(PolicySpec("spill", {{"balance_abs", {4.0}}}));
  builder.loads[0].requests = 5;  // mean 1.25
  EXPECT_EQ(builder.costs(*policy), (Costs{-0.9, -0.8, 0, 0}));
  builder.loads[0].requests = 6;  // mean 1.5: above 2.25 and 5.5
  builder.loads[1].prefill_tokens = 12'000;
  builder.loads[2].prefill_tokens = 6'000;
  EXPECT_EQ(builder.costs(*policy), (Costs{kInfinity, 1, 0.5, 0}));
  EXPECT_EQ(choose(builder, *policy), 3U);
}

TEST(Spill, PrefersAnotherHolderOfTheSamePrefix) {
  ScoreInputBuilder builder(4);
  builder.held = {9, 9, 0, 0};
  builder.loads[0].requests = 99;
  builder.loads[1].prefill_tokens = 12'000;
  const auto policy = make_policy("spill");
  EXPECT_EQ(builder.costs(*policy), (Costs{kInfinity, -0.9, 0, 0}));
  EXPECT_EQ(choose(builder, *policy), 1U);
}

TEST(Spill, GatesAnyPolicyWithCosts) {
  ScoreInputBuilder builder(2);
  builder.loads[0].requests = 10;
  builder.held = {10, 0};
  const auto policy = make_policy(PolicySpec("spill", {{"balance_abs", {4.0}},
                                                       {"of", {std::string("kv_cost")}},
                                                       {"to", {std::string("least_requests")}}}));
  EXPECT_EQ(builder.costs(*policy), (Costs{kInfinity, 0}));
  const auto terms = policy->terms(builder.input(), 0);
  EXPECT_EQ(terms[0].name, "requests");
  EXPECT_EQ(terms[2].name, "spilled");
  EXPECT_EQ(terms[2].value, 1);
}

TEST(Spill, NeverSpillsAnIdleFleet) {
  ScoreInputBuilder builder(2);
  builder.held = {9, 0};
  const auto policy = make_policy(PolicySpec("spill", {{"balance_abs", {0.0}}}));
  EXPECT_EQ(builder.costs(*policy), (Costs{-0.9, 0}));
}

}  // namespace
}  // namespace kvroute
