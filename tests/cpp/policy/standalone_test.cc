#include "kvroute/policy/standalone.h"

#include <gtest/gtest.h>

#include <vector>

#include "score_input_builder.h"

namespace kvroute {
namespace {

using Costs = std::vector<double>;

TEST(Standalone, IsTheNegatedLogitOfTheExample) {
  ScoreInputBuilder builder(2);
  builder.held = {5, 0};  // 80 of 160 tokens
  builder.loads[0].reported = {.waiting = 4, .running = {}, .kv_usage = 0.25};
  builder.loads[1].reported = {.waiting = 1, .running = {}, .kv_usage = 0.5};
  EXPECT_EQ(builder.costs(Standalone{}), (Costs{-(2 * 0.5 - 0.25 - 1.0), -(0 - 0.5 - 0.25)}));
}

TEST(Standalone, LeavesOutTheQueueWhenNobodyWaits) {
  ScoreInputBuilder builder(2);
  builder.loads[0].reported = {.waiting = 0, .running = 9, .kv_usage = 0.0};
  EXPECT_EQ(builder.costs(Standalone{}), (Costs{0, 0}));
}

TEST(Standalone, CountsPicksSinceTheLastReportAsWaiting) {
  ScoreInputBuilder builder(2);
  builder.loads[0].picks = 1;
  EXPECT_EQ(builder.costs(Standalone{}), (Costs{1, 0}));
  builder.loads[1].reported.waiting = 2;
  EXPECT_EQ(builder.costs(Standalone{}), (Costs{0.5, 1}));
}

TEST(Standalone, NormalisesByTheCandidatesAlone) {
  ScoreInputBuilder builder(3);
  builder.loads[2].reported.waiting = 100;
  builder.loads[0].reported.waiting = 1;
  builder.candidates = {0, 1};
  EXPECT_EQ(builder.costs(Standalone{}), (Costs{1, 0}));
}

TEST(Standalone, ExplainsItsLogit) {
  ScoreInputBuilder builder(1);
  builder.held = {10};
  const auto terms = Standalone{}.terms(builder.input(), 0);
  EXPECT_EQ(terms[0].name, "logit");
  EXPECT_EQ(terms[0].value, 2.0);
}

}  // namespace
}  // namespace kvroute
