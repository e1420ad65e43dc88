#include "kvroute/policy/loadaware.h"

#include <gtest/gtest.h>

#include <vector>

#include "chosen.h"

namespace kvroute {
namespace {

using Costs = std::vector<double>;

ScoreInputBuilder loaded() {
  ScoreInputBuilder builder(4);
  builder.held = {10, 5, 0, 0};
  builder.loads[0].requests = 6;
  builder.loads[1].requests = 2;
  return builder;  // 2 each on average
}

TEST(LoadAware, WeighsTheMatchAgainstTheLoadAboveTheMean) {
  EXPECT_EQ(loaded().costs(LoadAware{}), (Costs{2 - 1, 0 - 0.5, -1, -1}));
  EXPECT_EQ(loaded().costs(LoadAware{0.25}), (Costs{0.5 - 1, -0.5, -0.25, -0.25}));
}

TEST(LoadAware, CountsAMeanBelowOneAsOne) {
  ScoreInputBuilder builder(4);
  builder.held = {10, 0, 0, 0};
  builder.loads[0].requests = 2;
  EXPECT_EQ(builder.costs(LoadAware{}), (Costs{1.5 - 1, -0.5, -0.5, -0.5}));
}

TEST(LoadAware, TakesTheMeanOfTheCandidatesAlone) {
  ScoreInputBuilder builder = loaded();
  builder.candidates = {1, 2};
  EXPECT_EQ(builder.costs(LoadAware{}), (Costs{1 - 0.5, -1}));
}

TEST(LoadAware, FallsBackWhereNobodyHoldsAnything) {
  ScoreInputBuilder builder = loaded();
  EXPECT_EQ(decider_of(LoadAware{}, builder), "loadaware");
  builder.candidates = {2, 3};
  EXPECT_EQ(decider_of(LoadAware{}, builder), "qps");
  builder.session = 3;
  EXPECT_EQ(decider_of(LoadAware{}, builder), "session");
}

TEST(LoadAware, ReadsItsParameters) {
  const auto policy = make_policy({"loadaware", {{"beta", {0.0}}, {"fallback", {"random"}}}});
  ScoreInputBuilder builder = loaded();
  EXPECT_EQ(builder.costs(*policy), (Costs{-1, -0.5, 0, 0}));
  builder.candidates = {2, 3};
  EXPECT_EQ(decider_of(*policy, builder), "random");
}

TEST(LoadAware, ExplainsItsTerms) {
  const auto terms = LoadAware{}.terms(loaded().input(), 0);
  EXPECT_EQ(terms[0].value, 1);
  EXPECT_EQ(terms[1].value, 2);
}

}  // namespace
}  // namespace kvroute
