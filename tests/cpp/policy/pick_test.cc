#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
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

TEST(RoundRobin, GivesOneTurnToACandidateThatWasMissingForAWhile) {
  const auto policy = make_policy("roundrobin");
  ScoreInputBuilder builder(4);
  PickState state(1);
  const auto next = [&] { return builder.candidates[policy->pick(builder.input(), {}, state)]; };
  EXPECT_EQ(next(), 0U);
  builder.candidates = {0, 2, 3};  // 1 would be next
  for (const Slot expected : {2U, 3U, 0U, 2U}) EXPECT_EQ(next(), expected);
  builder.candidates = {0, 1, 2, 3};
  for (const Slot expected : {1U, 3U, 0U, 2U, 1U, 3U}) EXPECT_EQ(next(), expected);
}

TEST(RoundRobin, IsFairToEachOfTwoModelsWhoseRequestsAlternate) {
  const auto policy = make_policy("round_robin");
  ScoreInputBuilder builder(4);
  PickState state(1);
  std::array<int, 4> counts{};
  for (int i = 0; i < 400; ++i) {
    builder.candidates = i % 2 == 0 ? std::vector<Slot>{0, 1} : std::vector<Slot>{2, 3};
    ++counts.at(builder.candidates[policy->pick(builder.input(), {}, state)]);
  }
  EXPECT_EQ(counts, (std::array<int, 4>{100, 100, 100, 100}));
}

// Any mix of sets of candidates, over targets that come and go: between two of its turns, nobody is
// passed over for the same target twice; and whoever can serve the same requests has as many turns.
TEST(RoundRobin, PassesNobodyOverTwiceForTheSameTarget) {
  constexpr std::size_t kTargets = 12;
  const auto policy = make_policy("round_robin");
  Random random(11);
  for (int trial = 0; trial < 50; ++trial) {
    ScoreInputBuilder builder(kTargets);
    PickState state(1);
    std::vector<std::vector<Slot>> sets(1 + random.below(5));
    for (auto& set : sets) {
      for (Slot slot = 1; slot < kTargets; slot += 2) {
        if (random.below(2) == 0) set.insert(set.end(), {slot - 1, slot});  // always together
      }
      if (set.empty()) set = {0, 1};
    }
    std::vector<std::array<bool, kTargets>> passed_for(kTargets);
    std::array<int, kTargets> turns{};
    for (int i = 0; i < 600; ++i) {
      if (i == 300) {
        builder.identities[4] = builder.identities[5] = random.next();  // others in their slots
        turns[4] = turns[5] = 0;
        for (auto& of_one : passed_for) of_one[4] = of_one[5] = false;
        passed_for[4] = passed_for[5] = {};
      }
      builder.candidates = sets[random.below(sets.size())];
      const Slot taken = builder.candidates[policy->pick(builder.input(), {}, state)];
      ++turns[taken];
      passed_for[taken] = {};
      for (const Slot slot : builder.candidates) {
        if (slot == taken) continue;
        ASSERT_FALSE(passed_for[slot][taken]) << slot << " for " << taken;
        passed_for[slot][taken] = true;
      }
      for (Slot slot = 1; slot < kTargets; slot += 2) {
        ASSERT_LE(std::abs(turns[slot] - turns[slot - 1]), 1);
      }
    }
  }
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
