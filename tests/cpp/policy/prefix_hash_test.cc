#include "kvroute/policy/prefix_hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "score_input_builder.h"

namespace kvroute {
namespace {

using Costs = std::vector<double>;

std::size_t choose(const ScoreInputBuilder& builder, const Policy& policy) {
  PickState state(1);
  const Policy& decider = policy.decider(builder.input());
  return decider.pick(builder.input(), builder.costs(policy), state);
}

TEST(PrefixHash, SendsPromptsWithTheSameHeadToTheSameTarget) {
  ScoreInputBuilder builder(8);
  const PrefixHash policy({.prefix_tokens = 32, .load_factor = 1.25});
  builder.hashes = {11, 12, 13, 14};
  const std::size_t home = choose(builder, policy);
  builder.hashes = {11, 12, 99};
  EXPECT_EQ(choose(builder, policy), home);
  std::array<int, 8> counts{};
  for (std::uint64_t head = 0; head < 8'000; ++head) {
    builder.hashes = {head, 12};
    ++counts.at(choose(builder, policy));
  }
  for (const int count : counts) EXPECT_NEAR(count, 1'000, 120);
}

TEST(PrefixHash, MovesOnlyTheHeadsOfATargetThatLeaves) {
  ScoreInputBuilder all(5);
  ScoreInputBuilder rest(5);
  rest.candidates = {0, 1, 2, 4};
  const PrefixHash policy;
  for (std::uint64_t head = 0; head < 500; ++head) {
    all.hashes = rest.hashes = {head};
    const Slot before = all.candidates[choose(all, policy)];
    const Slot after = rest.candidates[choose(rest, policy)];
    if (before != 3) {
      EXPECT_EQ(after, before);
    } else {
      EXPECT_NE(after, 3U);
    }
  }
}

TEST(PrefixHash, PassesOverFullTargetsInTheHeadsOwnOrder) {
  ScoreInputBuilder builder(4);
  builder.hashes = {7};
  const PrefixHash policy;
  const Costs idle = builder.costs(policy);
  std::vector<Slot> order = builder.candidates;
  std::ranges::sort(order, {}, [&](Slot slot) { return idle[slot]; });
  // 1.25 * (4 + 1)/4 = 1.56: two requests are the most.
  builder.loads[order[0]].requests = 2;
  builder.loads[order[1]].requests = 2;
  EXPECT_EQ(choose(builder, policy), order[2]);
  builder.loads[order[0]].requests = 1;
  EXPECT_EQ(choose(builder, policy), order[0]);
  for (TargetLoad& load : builder.loads) load.requests = 1'000;
  EXPECT_EQ(choose(builder, policy), order[0]);
}

TEST(PrefixHash, NeverExceedsItsBoundInABurstOfOneHead) {
  ScoreInputBuilder builder(8);
  builder.hashes = {7};
  const PrefixHash policy;
  for (int sent = 1; sent <= 256; ++sent) {
    ++builder.loads[choose(builder, policy)].requests;
    for (const TargetLoad& load : builder.loads) {
      ASSERT_LE(load.requests, std::ceil(1.25 * sent / 8));
    }
  }
}

TEST(PrefixHash, LeavesPromptsWithoutABlockToTheLeastRequests) {
  ScoreInputBuilder builder(2);
  builder.loads[0].requests = 3;
  EXPECT_EQ(PrefixHash{}.decider(builder.input()).name(), "least_requests");
  EXPECT_EQ(choose(builder, PrefixHash{}), 1U);
}

/// 160 tokens take 1 s; returns the two targets that the head is mapped to.
std::vector<Slot> mapped(ScoreInputBuilder& builder) {
  builder.fleet.prefill = {.tokens_per_second = 160, .attention_seconds = 0};
  builder.hashes = {7};
  std::vector<Slot> two;
  const Costs costs = builder.costs(DualMap{});
  for (std::size_t i = 0; i < costs.size(); ++i) {
    if (std::isfinite(costs[i])) two.push_back(builder.candidates[i]);
  }
  return two;
}

TEST(DualMap, PrefersTheCacheOfItsTwoTargetsWithinTheObjective) {
  ScoreInputBuilder builder(6);
  const std::vector<Slot> two = mapped(builder);
  ASSERT_EQ(two.size(), 2U);
  builder.held.assign(6, 10);  // others' caches do not count
  builder.held[two[0]] = 4;
  builder.held[two[1]] = 2;
  builder.loads[two[0]].prefilling = 1;
  builder.loads[two[0]].backlog_seconds = 4.4;
  EXPECT_EQ(builder.costs(DualMap{})[two[0]], 0.6);
  EXPECT_EQ(choose(builder, DualMap{}), two[0]);
  builder.loads[two[0]].backlog_seconds = 4.5;  // 4.5 + 0.6 > 5
  EXPECT_DOUBLE_EQ(builder.costs(DualMap{})[two[0]], 5.1);
  EXPECT_DOUBLE_EQ(builder.costs(DualMap{})[two[1]], 0.8);
  EXPECT_EQ(choose(builder, DualMap{}), two[1]);
}

TEST(DualMap, BreaksTiesByTokensInUse) {
  ScoreInputBuilder builder(6);
  const std::vector<Slot> two = mapped(builder);
  builder.loads[two[0]].prompt_blocks = 3;
  EXPECT_EQ(choose(builder, DualMap{}), two[1]);
}

TEST(DualMap, SpreadsHeadsAndWorksWithOneTarget) {
  ScoreInputBuilder builder(4);
  std::array<int, 4> counts{};
  for (std::uint64_t head = 0; head < 4'000; ++head) {
    builder.hashes = {head};
    const Costs costs = builder.costs(DualMap{});
    EXPECT_EQ(std::ranges::count_if(costs, [](double cost) { return std::isfinite(cost); }), 2);
    for (std::size_t i = 0; i < 4; ++i) counts.at(i) += std::isfinite(costs[i]) ? 1 : 0;
  }
  for (const int count : counts) EXPECT_NEAR(count, 2'000, 200);
  ScoreInputBuilder alone(1);
  alone.hashes = {7};
  EXPECT_EQ(choose(alone, DualMap{}), 0U);
  EXPECT_EQ(DualMap{}.decider(ScoreInputBuilder(1).input()).name(), "ttft");
}

}  // namespace
}  // namespace kvroute
