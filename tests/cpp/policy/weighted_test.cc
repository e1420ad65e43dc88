#include "kvroute/policy/weighted.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "kvroute/base/error.h"
#include "policy/scores.h"
#include "score_input_builder.h"

namespace kvroute {
namespace {

using Scores = std::vector<double>;

Scores score(const ScoreInputBuilder& builder, const std::string& name) {
  Scores scores(builder.candidates.size());
  const auto all = detail::named_scores();
  std::ranges::find(all, name, &detail::NamedScore::name)->add(builder.input(), 1, scores);
  return scores;
}

TEST(Scores, PrefixIsTheShareOfFullBlocks) {
  ScoreInputBuilder builder(3);
  builder.held = {0, 5, 10};
  builder.num_tokens = 175;  // a partial block does not count
  EXPECT_EQ(score(builder, "prefix"), (Scores{0, 0.5, 1}));
  builder.num_tokens = 15;
  EXPECT_EQ(score(builder, "prefix"), (Scores{0, 0, 0}));
}

TEST(Scores, QueueGoesFromTheLongestToTheShortest) {
  ScoreInputBuilder builder(3);
  EXPECT_EQ(score(builder, "queue"), (Scores{1, 1, 1}));
  builder.report(0, {.waiting = 4, .running = {}, .kv_usage = {}});
  builder.report(1, {.waiting = 0, .running = {}, .kv_usage = {}});
  builder.loads[1].unreported = 2;                          // sent since
  EXPECT_EQ(score(builder, "queue"), (Scores{0, 1, 0.5}));  // nothing known: their mean, 3
  builder.loads[2].unreported = 10;                         // no report would ever end them
  EXPECT_EQ(score(builder, "queue"), (Scores{0, 1, 0.5}));
}

TEST(Scores, AQueueThatNobodyReportsIsAsLongAsWhatWasSentThereTellsOfTheOthers) {
  ScoreInputBuilder builder(3);
  builder.now = 1'000'000'000'000;
  builder.report(0, {.waiting = 6, .running = {}, .kv_usage = {}}, builder.now);
  builder.report(1, {.waiting = 2, .running = {}, .kv_usage = {}}, builder.now);
  for (const Slot slot : {0U, 1U}) builder.loads[slot].recent_requests.add(7, builder.now, 30);
  EXPECT_EQ(score(builder, "load")[2], 0.5);  // 4 * 1/8, and no half of a request
  builder.loads[2].recent_requests.add(3, builder.now, 30);
  EXPECT_EQ(score(builder, "load")[2], 0.5 * (1 - 2.0 / 128));
  builder.loads[2].joined_at = builder.now - seconds_to_ns(30 * std::log(2.0));  // half a memory
  EXPECT_EQ(score(builder, "load")[2], 0.5 * (1 - 3.0 / 128));
  builder.loads[2].prefilling = 5;
  EXPECT_EQ(score(builder, "load")[2], 0.5 * (1 - 5.0 / 128));
}

TEST(Scores, RunningAndUsageAreReported) {
  ScoreInputBuilder builder(3);
  EXPECT_EQ(score(builder, "kv_usage"), (Scores{1, 1, 1}));
  builder.report(0, {.waiting = {}, .running = 8, .kv_usage = 0.25});
  builder.report(1, {.waiting = {}, .running = 4, .kv_usage = 0.75});
  builder.loads[0].unreported = 99;
  EXPECT_EQ(score(builder, "running"), (Scores{0, 1, 0.5}));
  EXPECT_EQ(score(builder, "kv_usage"), (Scores{0.75, 0.25, 0.5}));
}

TEST(Scores, ForgetReportsThatAreOld) {
  ScoreInputBuilder builder(2);
  builder.report(0, {.waiting = 9, .running = 9, .kv_usage = 1.0});
  builder.now = 61'000'000'000;
  for (const char* const name : {"queue", "running", "kv_usage"}) {
    EXPECT_EQ(score(builder, name), (Scores{1, 1})) << name;
  }
}

TEST(Scores, ActiveRequestsAndTokensAreBooked) {
  ScoreInputBuilder builder(3);
  EXPECT_EQ(score(builder, "active_requests"), (Scores{1, 1, 1}));
  builder.loads[1].requests = 1;
  builder.loads[2].requests = 4;
  EXPECT_EQ(score(builder, "active_requests"), (Scores{1, 0.75, 0}));
  builder.active[0] = 10;
  builder.loads[0].prompt_blocks = 131'072;  // 2 Mi tokens
  builder.loads[2].prompt_blocks = 1'000'000;
  EXPECT_EQ(score(builder, "token_load"), (Scores{0.5, 1 - 160.0 / 4'194'304, 0}));
}

TEST(Scores, LoadIsAHalfWithoutAQueue) {
  ScoreInputBuilder builder(3);
  builder.report(0, {.waiting = 0, .running = {}, .kv_usage = {}});
  builder.report(1, {.waiting = 64, .running = {}, .kv_usage = {}});
  builder.report(2, {.waiting = 500, .running = {}, .kv_usage = {}});
  EXPECT_EQ(score(builder, "load"), (Scores{0.5, 0.25, 0}));
}

TEST(Scores, SessionStaysWithOneTarget) {
  ScoreInputBuilder builder(4);
  EXPECT_EQ(score(builder, "session"), (Scores{0, 0, 0, 0}));
  builder.session = 77;
  const Scores scores = score(builder, "session");
  EXPECT_EQ(std::ranges::count(scores, 1.0), 1);
  EXPECT_EQ(std::ranges::count(scores, 0.0), 3);
  const auto owner = static_cast<Slot>(std::ranges::find(scores, 1.0) - scores.begin());
  std::erase(builder.candidates, owner == 0 ? 1U : 0U);
  EXPECT_EQ(score(builder, "session")[owner - 1], owner == 0 ? 0 : 1);
}

TEST(Scores, NoHitLruSpreadsColdRequestsAlone) {
  ScoreInputBuilder builder(3);
  builder.loads[0].recent_tokens.add(300, 0, 30);
  builder.loads[1].recent_tokens.add(100, 0, 30);
  EXPECT_EQ(score(builder, "no_hit_lru"), (Scores{0, 2.0 / 3, 1}));
  builder.held[0] = 1;
  EXPECT_EQ(score(builder, "no_hit_lru"), (Scores{0.5, 0.5, 0.5}));
}

TEST(Weighted, IsTheNegatedSumByLlmDsWeights) {
  ScoreInputBuilder builder(2);
  builder.held = {5, 0};
  builder.report(0, {.waiting = 3, .running = {}, .kv_usage = 0.5});
  builder.report(1, {.waiting = 1, .running = {}, .kv_usage = 0.0});
  EXPECT_EQ(builder.costs(Weighted{}), (Scores{-(3 * 0.5 + 0 + 2 * 0.5), -(0 + 2.0 + 2)}));
  const auto terms = Weighted{}.terms(builder.input(), 0);
  EXPECT_EQ(terms[0].value, 2.5);
  EXPECT_EQ(terms[1].name, "prefix");
  EXPECT_EQ(terms[1].value, 0.5);
}

TEST(Weighted, TakesAnyOfTheScores) {
  ScoreInputBuilder builder(2);
  builder.loads[0].requests = 2;
  const auto policy = make_policy(
      PolicySpec("weighted", {{"terms", {PolicySpec::Parameters{{"active_requests", {2.0}}}}}}));
  EXPECT_FALSE(policy->needs_overlap());
  EXPECT_EQ(builder.costs(*policy), (Scores{0, -2}));
  for (const auto& known : detail::named_scores()) {
    EXPECT_NO_THROW(Weighted({{std::string(known.name), 1}})) << known.name;
  }
  try {
    (void)make_policy(
        PolicySpec("weighted", {{"terms", {PolicySpec::Parameters{{"luck", {1.0}}}}}}));
    FAIL() << "expected InvalidArgument";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("'luck'"), std::string::npos);
  }
}

TEST(Weighted, NamesThePlaceOfTermsThatAreNone) {
  const auto refusal_of = [](PolicySpec::Parameters terms) {
    const PolicySpec::Parameters inner{{"name", {"weighted"}}, {"terms", {std::move(terms)}}};
    try {
      (void)make_policy(PolicySpec("gate", {{"when", {"no_session"}}, {"then", {inner}}}));
    } catch (const InvalidArgument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(refusal_of({{"luck", {1.0}}}).find("policy.then.terms: expected scores"), 0U);
  EXPECT_EQ(refusal_of({{"prefix", {-1.0}}}).find("policy.then.terms.prefix: "), 0U);
  EXPECT_EQ(refusal_of({}), "policy.then.terms: expected at least one named number, got none");
}

}  // namespace
}  // namespace kvroute
