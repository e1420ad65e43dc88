#include "kvroute/policy/load_balanced_kvaware.h"

#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "chosen.h"

namespace kvroute {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Nanoseconds kSecond = 1'000'000'000;
using Costs = std::vector<double>;
using Queue = std::optional<std::uint32_t>;

// Targets whose engines report these queues, half of them waiting; the first holds the prompt.
ScoreInputBuilder with_queues(const std::vector<Queue>& queues) {
  ScoreInputBuilder builder(queues.size());
  if (!queues.empty()) builder.held[0] = 10;
  for (Slot slot = 0; slot < queues.size(); ++slot) {
    if (!queues[slot]) continue;
    const std::uint32_t waiting = *queues[slot] / 2;
    builder.report(slot, {.waiting = waiting, .running = *queues[slot] - waiting, .kv_usage = {}});
  }
  return builder;
}

std::unique_ptr<Policy> policy(double threshold, const std::string& missing = "skip") {
  return make_policy({"load_balanced_kvaware",
                      {{"imbalanced_threshold", {threshold}}, {"stats_missing", {missing}}}});
}

struct Case {
  std::string name;
  double threshold;
  std::vector<Queue> queues;
  std::string decider;
  std::optional<Slot> slot = {};  // where there is only one answer
};

TEST(LoadBalancedKvAware, DecidesTheNamedCases) {
  const std::vector<Case> cases{
      {"spread below the threshold", 5, {9, 5, 5}, "kvaware", 0},
      {"spread at the threshold", 5, {9, 4, 5}, "least_loaded", 1},
      {"spread above the threshold", 5, {9, 5, 3}, "least_loaded", 2},
      {"a threshold between two counts", 4.5, {9, 5, 5}, "kvaware", 0},
      {"threshold 0", 0, {3, 2, 3}, "least_loaded", 1},
      {"threshold infinite", kInfinity, {1000, 0, 0}, "kvaware", 0},
      {"one target", 5, {9}, "kvaware", 0},
      {"one target, threshold 0", 0, {9}, "least_loaded", 0},
      {"no target", 0, {}, "qps"},
      {"equal loads", 1, {4, 4, 4}, "kvaware", 0},
      {"equal loads, threshold 0", 0, {4, 4, 4}, "least_loaded"},
      {"some without statistics, spread below", 5, {9, {}, 5}, "kvaware", 0},
      {"some without statistics, spread above", 5, {9, {}, 4}, "least_loaded", 2},
      {"one with statistics", 5, {9, {}, {}}, "kvaware", 0},
      {"nobody with statistics", 5, {{}, {}, {}}, "kvaware", 0},
      {"nobody with statistics, threshold 0", 0, {{}, {}, {}}, "kvaware", 0},
  };
  for (const Case& c : cases) {
    const ScoreInputBuilder builder = with_queues(c.queues);
    const auto balanced = policy(c.threshold);
    EXPECT_EQ(decider_of(*balanced, builder), c.decider) << c.name;
    if (c.slot) {
      EXPECT_EQ(times_chosen(*balanced, builder, 20)[*c.slot], 20) << c.name;
    }
  }
}

TEST(LoadBalancedKvAware, SpreadsTiesOfTheLeastLoaded) {
  const auto counts = times_chosen(*policy(5), with_queues({9, 2, 2, 2}), 3000);
  EXPECT_EQ(counts[0], 0);
  for (const Slot least : {1U, 2U, 3U}) EXPECT_NEAR(counts[least], 1000, 120);
}

TEST(LoadBalancedKvAware, ReadsMissingStatisticsAsZerosOnRequest) {
  const ScoreInputBuilder builder = with_queues({9, {}, 5});
  EXPECT_EQ(decider_of(*policy(9, "zero"), builder), "least_loaded");
  EXPECT_EQ(builder.costs(*policy(9, "zero")), (Costs{9, 0, 5}));
  EXPECT_EQ(decider_of(*policy(10, "zero"), builder), "kvaware");
  EXPECT_EQ(decider_of(*policy(0, "zero"), with_queues({{}, {}})), "least_loaded");
}

TEST(LoadBalancedKvAware, CountsBookingsOfATargetThatReadsAsZeros) {
  ScoreInputBuilder builder = with_queues({9, {}, 5});
  builder.loads[1].requests = 6;
  EXPECT_EQ(builder.costs(*policy(0, "zero")), (Costs{9, 6, 5}));
}

TEST(LoadBalancedKvAware, CountsUnfinishedPicksNewerThanTheReport) {
  ScoreInputBuilder builder = with_queues({9, 4, 5});
  builder.loads[1].unfinished = 3;
  EXPECT_EQ(decider_of(*policy(5), builder), "kvaware");
  builder.loads[0].unfinished = 1;
  EXPECT_EQ(decider_of(*policy(5), builder), "least_loaded");
  EXPECT_EQ(builder.costs(*policy(5)), (Costs{10, 7, 5}));
}

TEST(LoadBalancedKvAware, TakesAStaleReportAsNone) {
  ScoreInputBuilder builder = with_queues({9, 0, 4});
  builder.now = 61 * kSecond;
  EXPECT_EQ(decider_of(*policy(5), builder), "kvaware");
  for (const Slot slot : {0U, 2U}) builder.report(slot, builder.loads[slot].reported, kSecond);
  EXPECT_EQ(decider_of(*policy(5), builder), "least_loaded");
  EXPECT_EQ(builder.costs(*policy(5)), (Costs{9, kInfinity, 4}));
}

TEST(LoadBalancedKvAware, TakesAStaleQueueAsNoneThoughOtherFiguresAreFresh) {
  ScoreInputBuilder builder = with_queues({9, 0, 4});
  for (const Slot slot : {0U, 2U}) builder.report(slot, builder.loads[slot].reported, kSecond);
  builder.now = 61 * kSecond;
  builder.loads[1].reported.kv_usage = 0.1;
  builder.loads[1].reported_times.kv_usage = kSecond;
  EXPECT_EQ(builder.costs(*policy(5)), (Costs{9, kInfinity, 4}));
}

TEST(LoadBalancedKvAware, DoesNotCompareAQueueWithAndOneWithoutRunningRequests) {
  ScoreInputBuilder builder = with_queues({9, 0, 4});
  builder.report(1, {.waiting = 0, .running = {}, .kv_usage = {}});
  EXPECT_EQ(builder.costs(*policy(5)), (Costs{9, kInfinity, 4}));
  builder.report(0, {.waiting = 4, .running = {}, .kv_usage = {}});
  builder.report(2, {.waiting = 3, .running = {}, .kv_usage = {}});
  EXPECT_EQ(builder.costs(*policy(4)), (Costs{4, 0, 3}));
}

TEST(LoadBalancedKvAware, GoesThroughAllTiersAgainForARetry) {
  ScoreInputBuilder builder = with_queues({9, 0, 5, 5});
  EXPECT_EQ(decider_of(*policy(5), builder), "least_loaded");
  builder.candidates = {0, 2, 3};
  EXPECT_EQ(decider_of(*policy(5), builder), "kvaware");
  builder.candidates = {2, 3};
  EXPECT_EQ(decider_of(*policy(5), builder), "qps");
  builder.session = 5;
  EXPECT_EQ(decider_of(*policy(5), builder), "session");
}

TEST(LoadBalancedKvAware, IsKvAwareByDefault) {
  const auto plain = make_policy("load_balanced_kvaware");
  EXPECT_EQ(decider_of(*plain, with_queues({1000, 0})), "kvaware");
  EXPECT_EQ(decider_of(LoadBalancedKvAware{}, with_queues({1000, 0})), "kvaware");
}

TEST(LoadBalancedKvAware, PassesTheParametersOfKvAwareOn) {
  const auto balanced = make_policy(
      {"load_balanced_kvaware", {{"kv_aware_threshold", {0.0}}, {"fallback", {"random"}}}});
  ScoreInputBuilder builder = with_queues({0, 0});
  EXPECT_EQ(decider_of(*balanced, builder), "kvaware");
  builder.num_tokens = 161;
  EXPECT_EQ(decider_of(*balanced, builder), "random");
}

TEST(LoadBalancedKvAware, RefusesThresholdsThatAreNone) {
  for (const double threshold : {-1.0, -kInfinity, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_NE(refusal_of({"load_balanced_kvaware", {{"imbalanced_threshold", {threshold}}}}), "");
  }
  EXPECT_EQ(refusal_of({"load_balanced_kvaware", {{"imbalanced_threshold", {kInfinity}}}}), "");
  EXPECT_NE(refusal_of({"load_balanced_kvaware", {{"stats_missing", {"round_robin"}}}}), "");
}

}  // namespace
}  // namespace kvroute
