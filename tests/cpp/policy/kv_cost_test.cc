#include "kvroute/policy/kv_cost.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kvroute/base/error.h"
#include "score_input_builder.h"

namespace kvroute {
namespace {

using Costs = std::vector<double>;

TEST(KvCost, OfAnIdleTargetIsPrefillAndDecodeOfTheRequest) {
  const ScoreInputBuilder builder(1);  // 160 tokens: 10 blocks
  EXPECT_EQ(builder.costs(KvCost{}), (Costs{10 + 10}));
}

TEST(KvCost, CreditsCachedBlocksOnceAndNeverBelowZero) {
  ScoreInputBuilder builder(3);
  builder.held = {0, 4, 10};
  EXPECT_EQ(builder.costs(KvCost{}), (Costs{20, 16, 10}));
  builder.num_tokens = 161;  // 10 blocks are cached, one token is left to compute
  builder.held = {0, 0, 10};
  EXPECT_EQ(builder.costs(KvCost{})[2], 1.0 / 16 + 10);
  builder.num_tokens = 165;
  builder.held = {0, 0, 99};  // more than the request is long
  EXPECT_EQ(builder.costs(KvCost{})[2], 10);
}

TEST(KvCost, CountsBacklogActiveBlocksAndWhatTheRequestAdds) {
  ScoreInputBuilder builder(2);
  builder.loads[0].prefill_tokens = 320;
  builder.loads[0].prompt_blocks = 30;
  builder.loads[0].output_blocks = 5;
  builder.active[0] = 3;
  EXPECT_EQ(builder.costs(KvCost{}), (Costs{(320 + 160) / 16 + 35 + 7, 20}));
}

TEST(KvCost, LetsACachedPrefixLoseAgainstALongBacklog) {
  ScoreInputBuilder builder(2);
  builder.held = {10, 0};
  builder.loads[0].prefill_tokens = 16'000;
  const Costs costs = builder.costs(KvCost{});
  EXPECT_GT(costs[0], costs[1]);
}

TEST(KvCost, WeighsAsConfigured) {
  ScoreInputBuilder builder(2);
  builder.held = {4, 4};
  builder.loads[1].prefill_tokens = 160;
  builder.loads[1].requests = 2;
  const KvCost policy({.overlap_credit = 0.5,
                       .overlap_credit_decay = 1.0,
                       .prefill_scale = 2.0,
                       .request_weight = 3.0});
  // Target 1's backlog of 10 blocks for a request of 10 blocks halves its credit.
  EXPECT_EQ(builder.costs(policy), (Costs{2 * (10 - 0.5 * 4) + 10, 2 * (20 - 0.25 * 4) + 10 + 6}));
}

TEST(KvCost, ComparesTargetsOfDifferentBlockSizesInTokens) {
  ScoreInputBuilder builder(2);
  builder.block_sizes = {16, 32};
  builder.held = {4, 2};
  builder.loads[0].prompt_blocks = 6;
  builder.loads[1].prompt_blocks = 3;
  const Costs costs = builder.costs(KvCost{});
  EXPECT_EQ(costs[0], costs[1]);
}

TEST(KvCost, CreditsEachLowerTierForWhatOnlyItHas) {
  ScoreInputBuilder builder(2);
  builder.held = {2, 1};
  builder.depths = {builder.held, {{6, 1}}, {{6, 5}}, {{8, 9}}};
  EXPECT_EQ(builder.costs(KvCost{}), (Costs{20 - 2 - 0.75 * 4, 20 - 1 - 0.25 * 4}));
  const KvCost policy({.host_weight = 0.5, .disk_weight = 0.125, .external_weight = 0.0625});
  EXPECT_EQ(builder.costs(policy),
            (Costs{20 - 2 - 0.5 * 4 - 0.0625 * 2, 20 - 1 - 0.125 * 4 - 0.0625 * 4}));
}

TEST(KvCost, LikesPreferredLabelsAsDynamoDoes) {
  ScoreInputBuilder builder(3);
  builder.preferences = {0, 2, -100};
  const Costs costs = builder.costs(KvCost{});
  EXPECT_EQ(costs[0], 20);
  EXPECT_DOUBLE_EQ(costs[1], 20 * std::exp(-std::tanh(2.0)));
  EXPECT_DOUBLE_EQ(costs[2], 20 * std::exp(1.0));
}

TEST(KvCost, AvoidsBusyTargetsUnlessAllAre) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const KvCost policy(
      {.active_decode_blocks_threshold = 0.5, .active_prefill_tokens_threshold = 320});
  ScoreInputBuilder builder(4);
  builder.total_blocks = {100, 100, 0, 100};
  builder.loads[0].prompt_blocks = 51;
  builder.loads[1].prompt_blocks = 50;  // at the threshold
  builder.loads[2].prompt_blocks = 99;  // of an unknown number
  builder.loads[3].prefill_tokens = 321;
  EXPECT_EQ(builder.costs(policy), (Costs{kInfinity, 70, 119, kInfinity}));
  builder.candidates = {0, 3};
  EXPECT_EQ(builder.costs(policy), (Costs{71, 481.0 / 16 + 10}));
  EXPECT_EQ(policy.terms(builder.input(), 0)[4].value, 1);
}

TEST(KvCost, FollowsTheRequestsOverrides) {
  ScoreInputBuilder builder(1);
  builder.held = {4};
  builder.overrides.overlap_credit = 0.5;
  builder.overrides.prefill_scale = 3;
  EXPECT_EQ(builder.costs(KvCost{}), (Costs{3 * (10 - 2) + 10}));
}

TEST(KvCost, SharesNoBlocksWhereReuseIsNotAssumed) {
  ScoreInputBuilder builder(1);
  builder.active = {10};
  EXPECT_EQ(builder.costs(KvCost{}), (Costs{10}));
  EXPECT_EQ(builder.costs(KvCost({.assume_kv_reuse = false})), (Costs{20}));
}

TEST(KvCost, LeavesPrefillOutWhereItIsNotTracked) {
  ScoreInputBuilder builder(1);
  builder.held = {4};
  builder.loads[0].prefill_tokens = 999;
  builder.loads[0].prompt_blocks = 7;
  EXPECT_EQ(builder.costs(KvCost({.track_prefill_tokens = false})), (Costs{17}));
  EXPECT_EQ(builder.costs(KvCost({.track_prefill_tokens = false, .decode_role = true})),
            (Costs{17 - 4}));
}

// Decode routers set the credit to 0 for load alone: no tier is credited then.
TEST(KvCost, CreditsNoTierOfADecodeRoleWithoutOverlapCredit) {
  ScoreInputBuilder builder(1);
  builder.depths = {builder.held, {{10}}, {{10}}, {{10}}};
  builder.loads[0].prompt_blocks = 20;
  EXPECT_EQ(builder.costs(KvCost({.track_prefill_tokens = false, .decode_role = true})),
            (Costs{30 - 7.5}));
  const KvCost load_only({.overlap_credit = 0, .track_prefill_tokens = false, .decode_role = true});
  EXPECT_EQ(builder.costs(load_only), (Costs{30}));
  builder.overrides.overlap_credit = 0;
  EXPECT_EQ(builder.costs(KvCost({.track_prefill_tokens = false, .decode_role = true})),
            (Costs{30}));
}

// 160 tokens above the least are 10 blocks; the request's 17 tokens are 2.
TEST(KvCost, DecaysTheCreditByTheRequestsBlocksRoundedUp) {
  ScoreInputBuilder builder(2);
  builder.num_tokens = 17;
  builder.held = {0, 1};
  builder.loads[1].prefill_tokens = 160;
  const KvCost policy({.overlap_credit_decay = 1});
  EXPECT_DOUBLE_EQ(policy.terms(builder.input(), 1)[7].value, 1.0 / 6);
  EXPECT_DOUBLE_EQ(builder.costs(policy)[1], 177.0 / 16 - 1.0 / 6 + 1);
}

TEST(KvCost, LetsARequestSayWhetherItSharesAndWhetherPrefillCounts) {
  ScoreInputBuilder builder(1);
  builder.active = {10};
  builder.loads[0].prefill_tokens = 160;
  EXPECT_EQ(builder.costs(KvCost{}), (Costs{20}));
  builder.overrides.assume_kv_reuse = false;
  EXPECT_EQ(builder.costs(KvCost{}), (Costs{30}));
  builder.overrides.track_prefill_tokens = false;
  EXPECT_EQ(builder.costs(KvCost{}), (Costs{10}));
  builder.overrides.assume_kv_reuse = true;
  builder.overrides.track_prefill_tokens = true;
  EXPECT_EQ(builder.costs(KvCost({.assume_kv_reuse = false, .track_prefill_tokens = false})),
            (Costs{20}));
}

TEST(KvCost, ReadsItsParameters) {
  ScoreInputBuilder builder(1);
  builder.held = {4};
  const auto policy = make_policy(PolicySpec(
      "kv_cost",
      {{"overlap_credit", {0.5}}, {"prefill_scale", {2.0}}, {"assume_kv_reuse", {false}}}));
  EXPECT_EQ(builder.costs(*policy), (Costs{2 * 8 + 10}));
  EXPECT_THROW((void)make_policy(PolicySpec("kv_cost", {{"host_weight", {1.5}}})), InvalidArgument);
}

TEST(KvCost, ExplainsTermsThatAddUpToTheCost) {
  ScoreInputBuilder builder(2);
  builder.held = {4, 0};
  builder.loads[0].prefill_tokens = 99;
  const KvCost policy(
      {.overlap_credit = 1, .overlap_credit_decay = 0, .prefill_scale = 1, .request_weight = 0.5});
  const auto terms = policy.terms(builder.input(), 0);
  EXPECT_EQ(terms[0].name, "prefill_cost");
  EXPECT_EQ(terms[0].value + terms[1].value + terms[2].value, builder.costs(policy)[0]);
}

}  // namespace
}  // namespace kvroute
