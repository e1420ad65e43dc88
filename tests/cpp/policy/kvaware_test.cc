#include "kvroute/policy/kvaware.h"

#include <gtest/gtest.h>

#include <vector>

#include "chosen.h"

namespace kvroute {
namespace {

using Costs = std::vector<double>;

ScoreInputBuilder with_match(std::uint64_t num_tokens, std::uint32_t blocks) {
  ScoreInputBuilder builder(3);
  builder.num_tokens = num_tokens;
  builder.held = {0, blocks, 0};
  return builder;
}

TEST(KvAware, GoesWhereMostIsCached) {
  ScoreInputBuilder builder(3);
  builder.held = {3, 5, 4};
  EXPECT_EQ(decider_of(KvAware{}, builder), "kvaware");
  EXPECT_EQ(builder.costs(KvAware{}), (Costs{160 - 48, 160 - 80, 160 - 64}));
}

TEST(KvAware, TakesAnyMatchOfAPromptWithinTheThreshold) {
  EXPECT_EQ(decider_of(KvAware{}, with_match(2000, 1)), "kvaware");
  EXPECT_EQ(decider_of(KvAware{}, with_match(2000, 0)), "qps");
}

TEST(KvAware, MissesWhereMoreThanTheThresholdIsLeft) {
  EXPECT_EQ(decider_of(KvAware{}, with_match(2000 + 160, 10)), "kvaware");
  EXPECT_EQ(decider_of(KvAware{}, with_match(2000 + 161, 10)), "qps");
  EXPECT_EQ(decider_of(KvAware{0}, with_match(160, 10)), "kvaware");
  EXPECT_EQ(decider_of(KvAware{0}, with_match(161, 10)), "qps");
}

TEST(KvAware, FallsBackToTheSessionWhereThereIsOne) {
  ScoreInputBuilder builder(3);
  builder.session = 1;
  EXPECT_EQ(decider_of(KvAware{}, builder), "session");
  builder.session.reset();
  EXPECT_EQ(decider_of(KvAware{}, builder), "qps");
}

TEST(KvAware, LooksAtTheCandidatesAlone) {
  ScoreInputBuilder builder = with_match(160, 10);
  builder.candidates = {0, 2};
  EXPECT_EQ(decider_of(KvAware{}, builder), "qps");
}

TEST(KvAware, SpreadsTies) {
  ScoreInputBuilder builder(4);
  builder.held = {5, 0, 5, 5};
  const auto counts = times_chosen(KvAware{}, builder, 3000);
  EXPECT_EQ(counts[1], 0);
  for (const Slot holder : {0U, 2U, 3U}) EXPECT_NEAR(counts[holder], 1000, 120);
}

TEST(KvAware, ReadsItsParameters) {
  const auto policy =
      make_policy({"kvaware", {{"kv_aware_threshold", {100.0}}, {"fallback", {"round_robin"}}}});
  EXPECT_EQ(decider_of(*policy, with_match(260, 10)), "kvaware");
  EXPECT_EQ(decider_of(*policy, with_match(261, 10)), "round_robin");
  EXPECT_NE(refusal_of({"kvaware", {{"kv_aware_threshold", {-1.0}}}}), "");
}

}  // namespace
}  // namespace kvroute
