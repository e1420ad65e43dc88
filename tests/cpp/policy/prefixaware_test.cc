#include "kvroute/policy/prefixaware.h"

#include <gtest/gtest.h>

#include <vector>

#include "chosen.h"

namespace kvroute {
namespace {

TEST(PrefixAware, TakesAnyOfTheLongestMatchesAtRandom) {
  ScoreInputBuilder builder(4);
  builder.held = {5, 2, 5, 0};
  const auto counts = times_chosen(PrefixAware{}, builder, 2000);
  EXPECT_NEAR(counts[0], 1000, 120);
  EXPECT_NEAR(counts[2], 1000, 120);
  EXPECT_EQ(counts[1] + counts[3], 0);
}

TEST(PrefixAware, SendsAPromptThatNobodyKnowsToAnyone) {
  ScoreInputBuilder builder(4);
  builder.histories[0].requests.add(0, 0, 60);
  EXPECT_EQ(decider_of(PrefixAware{}, builder), "prefixaware");
  for (const int count : times_chosen(PrefixAware{}, builder, 4000)) EXPECT_NEAR(count, 1000, 120);
}

TEST(PrefixAware, FallsBackBelowTheLeastLength) {
  ScoreInputBuilder builder(2);
  builder.held = {5, 0};
  EXPECT_EQ(decider_of(PrefixAware{80}, builder), "prefixaware");
  EXPECT_EQ(decider_of(PrefixAware{81}, builder), "qps");
  builder.candidates = {1};
  EXPECT_EQ(decider_of(PrefixAware{1}, builder), "qps");
}

TEST(PrefixAware, ReadsItsParameters) {
  const auto policy =
      make_policy({"prefixaware", {{"prefix_min_match_length", {81.0}}, {"fallback", {"random"}}}});
  ScoreInputBuilder builder(2);
  builder.held = {5, 0};
  EXPECT_EQ(decider_of(*policy, builder), "random");
  EXPECT_NE(refusal_of({"prefixaware", {{"prefix_min_match_length", {0.5}}}}), "");
}

}  // namespace
}  // namespace kvroute
