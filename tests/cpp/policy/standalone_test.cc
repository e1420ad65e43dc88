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
  builder.report(0, {.waiting = 4, .running = {}, .kv_usage = 0.25});
  builder.report(1, {.waiting = 1, .running = {}, .kv_usage = 0.5});
  EXPECT_EQ(builder.costs(Standalone{}), (Costs{-(2 * 0.5 - 0.25 - 1.0), -(0 - 0.5 - 0.25)}));
}

TEST(Standalone, LeavesOutTheQueueWhenNobodyWaits) {
  ScoreInputBuilder builder(2);
  builder.report(0, {.waiting = 0, .running = 9, .kv_usage = 0.0});
  EXPECT_EQ(builder.costs(Standalone{}), (Costs{0, 0}));
}

TEST(Standalone, CountsWhatWasSentSinceTheLastReportAsWaiting) {
  ScoreInputBuilder builder(2);
  builder.loads[0].unreported = 1;
  EXPECT_EQ(builder.costs(Standalone{}), (Costs{0, 0})) << "nobody reports";
  builder.loads[0].prefilling = 1;
  EXPECT_EQ(builder.costs(Standalone{}), (Costs{1, 0}));
  builder.report(0, {.waiting = 0, .running = {}, .kv_usage = {}});
  builder.report(1, {.waiting = 2, .running = {}, .kv_usage = {}});
  EXPECT_EQ(builder.costs(Standalone{}), (Costs{0.5, 1}));
}

TEST(Standalone, TakesTheMeanOfTheOthersForWhatIsUnknownOrOld) {
  constexpr Nanoseconds kSecond = 1'000'000'000;
  ScoreInputBuilder builder(4);
  builder.now = 100 * kSecond;
  builder.report(0, {.waiting = 0, .running = {}, .kv_usage = 0.25}, 90 * kSecond);
  builder.report(1, {.waiting = 4, .running = {}, .kv_usage = 0.75}, 90 * kSecond);
  builder.report(2, {.waiting = 9, .running = {}, .kv_usage = 0.9}, 39 * kSecond);  // too old
  builder.loads[2].unreported = 30;                                                 // since then
  EXPECT_EQ(builder.costs(Standalone{}), (Costs{0.25, 1.75, 0.5 + 0.5, 0.5 + 0.5}));
}

TEST(Standalone, NormalisesByTheCandidatesAlone) {
  ScoreInputBuilder builder(3);
  builder.report(2, {.waiting = 100, .running = {}, .kv_usage = {}});
  builder.report(1, {.waiting = 0, .running = {}, .kv_usage = {}});
  builder.report(0, {.waiting = 1, .running = {}, .kv_usage = {}});
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
