#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kvroute/base/error.h"
#include "kvroute/policy/policy.h"
#include "score_input_builder.h"

namespace kvroute {
namespace {

TEST(PickLeast, TakesTheLeastWithoutAskingTheGenerator) {
  Random random(5);
  Random untouched(5);
  EXPECT_EQ(pick_least(std::vector<double>{3, 1, 2}, random), 1U);
  EXPECT_EQ(random.next(), untouched.next());
}

TEST(PickLeast, SpreadsTiesEvenly) {
  Random random(5);
  const std::vector<double> costs{1, 0, 0, 2, 0};
  std::array<int, 5> counts{};
  for (int i = 0; i < 30'000; ++i) ++counts.at(pick_least(costs, random));
  EXPECT_EQ(counts[0] + counts[3], 0);
  for (const int i : {1, 2, 4}) EXPECT_NEAR(counts.at(static_cast<std::size_t>(i)), 10'000, 400);
}

TEST(PickBy, SamplesAmongFiniteCostsWhereThereAreAny) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::vector<double> costs{kInfinity, 3, kInfinity, 1, std::nan(""), 2, kInfinity};
  for (const std::uint32_t sample : {2U, 3U, 6U}) {
    Random random(5);
    std::array<int, 7> counts{};
    for (int i = 0; i < 30'000; ++i) ++counts.at(pick_by({.sample = sample}, costs, random));
    EXPECT_NEAR(counts[3], sample == 2 ? 20'000 : 30'000, 400) << sample;
    EXPECT_NEAR(counts[5], sample == 2 ? 10'000 : 0, 400) << sample;
    EXPECT_EQ(counts[3] + counts[5], 30'000) << sample;
  }
  Random random(5);
  const std::vector<double> one{kInfinity, kInfinity, 7, kInfinity};
  const std::vector<double> none(4, kInfinity);
  std::array<int, 4> counts{};
  for (int i = 0; i < 4'000; ++i) {
    EXPECT_EQ(pick_by({.sample = 2}, one, random), 2U);
    EXPECT_EQ(pick_by({.sample = 1}, one, random), 2U);
    ++counts.at(pick_by({.sample = 2}, none, random));
  }
  for (const int count : counts) EXPECT_NEAR(count, 1'000, 150);
}

TEST(RoundRobin, TakesEachInTurn) {
  const auto policy = make_policy("round_robin");
  const ScoreInputBuilder builder(3);
  PickState state(1);
  for (const std::size_t expected : {0U, 1U, 2U, 0U, 1U}) {
    EXPECT_EQ(policy->pick(builder.input(), {}, state), expected);
  }
}

TEST(RoundRobin, GoesOnWhenACandidateIsMissingForAWhile) {
  const auto policy = make_policy("roundrobin");
  ScoreInputBuilder builder(4);
  PickState state(1);
  EXPECT_EQ(policy->pick(builder.input(), {}, state), 0U);
  builder.candidates = {0, 2, 3};  // 1 would be next
  EXPECT_EQ(builder.candidates[policy->pick(builder.input(), {}, state)], 2U);
  builder.candidates = {0, 1, 2, 3};
  EXPECT_EQ(builder.candidates[policy->pick(builder.input(), {}, state)], 3U);
  EXPECT_EQ(builder.candidates[policy->pick(builder.input(), {}, state)], 0U);
}

TEST(RoundRobin, GoesOnWhenAnotherTargetHasTheSlotOfTheLastOne) {
  const auto policy = make_policy("round_robin");
  ScoreInputBuilder builder(3);  // a, b, c
  PickState state(1);
  EXPECT_EQ(policy->pick(builder.input(), {}, state), 0U);
  EXPECT_EQ(policy->pick(builder.input(), {}, state), 1U);
  builder.identities[1] = 77;  // b goes, z comes
  builder.turns = {0, 2, 1};
  for (const std::size_t expected : {2U, 1U, 0U, 2U}) {
    EXPECT_EQ(policy->pick(builder.input(), {}, state), expected);
  }
}

TEST(RandomChoice, IsEven) {
  const auto policy = make_policy("random");
  const ScoreInputBuilder builder(4);
  PickState state(1);
  std::array<int, 4> counts{};
  for (int i = 0; i < 40'000; ++i) ++counts.at(policy->pick(builder.input(), {}, state));
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 400);
}

TEST(MakePolicy, KnowsEachOfItsNamesAndNoOther) {
  for (const auto name : policy_names()) EXPECT_EQ(make_policy(std::string(name))->name(), name);
  try {
    (void)make_policy("best");
    FAIL() << "expected InvalidArgument";
  } catch (const InvalidArgument& error) {
    std::string expected = "policy: expected one of";
    for (const auto name : policy_names()) expected += " '" + std::string(name) + "'";
    EXPECT_EQ(error.what(), expected + ", got 'best'");
  }
}

}  // namespace
}  // namespace kvroute
