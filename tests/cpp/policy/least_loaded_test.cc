#include "kvroute/policy/least_loaded.h"

#include <gtest/gtest.h>

#include <vector>

#include "chosen.h"

namespace kvroute {
namespace {

using Costs = std::vector<double>;

ScoreInputBuilder two_of_three_reported() {
  ScoreInputBuilder builder(3);
  builder.report(0, {.waiting = 1, .running = 4, .kv_usage = {}});
  builder.report(2, {.waiting = 0, .running = 3, .kv_usage = {}});
  return builder;
}

TEST(LeastLoaded, CountsRunningWaitingAndUnfinished) {
  ScoreInputBuilder builder = two_of_three_reported();
  builder.report(1, {.waiting = 0, .running = 0, .kv_usage = {}});
  builder.loads[1].unfinished = 7;
  builder.loads[1].unreported = 2;  // of them
  EXPECT_EQ(decider_of(LeastLoaded{}, builder), "least_loaded");
  EXPECT_EQ(builder.costs(LeastLoaded{}), (Costs{5, 7, 3}));
}

TEST(LeastLoaded, CountsWhatMayWaitWhereNobodySaysWhatRuns) {
  ScoreInputBuilder builder(2);
  builder.report(0, {.waiting = 1, .running = {}, .kv_usage = {}});
  builder.report(1, {.waiting = 0, .running = {}, .kv_usage = {}});
  builder.loads[1].unfinished = 7;
  builder.loads[1].unreported = 2;
  EXPECT_EQ(builder.costs(LeastLoaded{}), (Costs{1, 2}));
}

TEST(LeastLoaded, TakesAllInTurnWhereSomeStatisticsAreMissing) {
  const ScoreInputBuilder builder = two_of_three_reported();
  EXPECT_EQ(decider_of(LeastLoaded{}, builder), "round_robin");
  EXPECT_EQ(times_chosen(LeastLoaded{}, builder, 9), (std::vector<int>{3, 3, 3}));
}

TEST(LeastLoaded, LooksAtTheCandidatesAlone) {
  ScoreInputBuilder builder = two_of_three_reported();
  builder.candidates = {0, 2};
  EXPECT_EQ(decider_of(LeastLoaded{}, builder), "least_loaded");
  EXPECT_EQ(times_chosen(LeastLoaded{}, builder, 9), (std::vector<int>{0, 0, 9}));
}

TEST(LeastLoaded, MayLeaveOutWhoHasNoStatistics) {
  const LeastLoaded policy(StatsMissing::skip);
  EXPECT_EQ(times_chosen(policy, two_of_three_reported(), 9), (std::vector<int>{0, 0, 9}));
  EXPECT_EQ(decider_of(policy, ScoreInputBuilder(3)), "round_robin");
}

TEST(LeastLoaded, MayReadMissingStatisticsAsZeros) {
  ScoreInputBuilder builder = two_of_three_reported();
  builder.loads[1].requests = 1;
  EXPECT_EQ(builder.costs(LeastLoaded(StatsMissing::zero)), (Costs{5, 1, 3}));
}

TEST(LeastLoaded, ReadsItsParameters) {
  const ScoreInputBuilder builder = two_of_three_reported();
  EXPECT_EQ(decider_of(*make_policy("least_loaded"), builder), "round_robin");
  for (const char* missing : {"skip", "zero"}) {
    EXPECT_EQ(decider_of(*make_policy({"least_loaded", {{"stats_missing", {missing}}}}), builder),
              "least_loaded");
  }
  EXPECT_NE(refusal_of({"least_loaded", {{"stats_missing", {"mean"}}}}), "");
}

TEST(LeastLoaded, NeedsNoPrompt) { EXPECT_FALSE(LeastLoaded{}.needs_overlap()); }

}  // namespace
}  // namespace kvroute
