#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "kvroute/base/error.h"
#include "router_fixture.h"

namespace kvroute {
namespace {

using Names = std::vector<std::int64_t>;

class PhasesTest : public ::testing::Test {
 protected:
  PhasesTest() {
    fixture_.add(1);
    fixture_.add(2);
  }

  ReservationHandle reserve(Phase phase) {
    Request request = request_for(tokens_);
    request.phase = phase;
    return router_.reserve(request, "");
  }
  Names chosen(Phase phase, int times) {
    Names names;
    for (int i = 0; i < times; ++i) {
      const ReservationHandle handle = reserve(phase);
      names.push_back(std::get<std::int64_t>(handle.selection.target.worker));
      EXPECT_TRUE(router_.release(handle, {}));
    }
    return names;
  }
  TargetStats stats(std::size_t target) { return router_.stats().targets[target]; }

  std::vector<std::uint32_t> tokens_ = tokens_from(0, 64);
  RouterFixture fixture_{"round_robin"};
  Router& router_ = fixture_.router;
};

TEST_F(PhasesTest, AllGoByTheRoutersPolicyUntilTheyHaveTheirOwn) {
  EXPECT_EQ(chosen(Phase::kWhole, 1), Names({1}));
  EXPECT_EQ(chosen(Phase::kPrefill, 1), Names({2})) << "one turn for all";
  router_.set_policy(PolicySpec("round_robin"), Phase::kPrefill);
  EXPECT_EQ(chosen(Phase::kPrefill, 3), Names({1, 2, 1}));
  router_.set_policy(PolicySpec("random"), Phase::kDecode);
  EXPECT_EQ(chosen(Phase::kPrefill, 1), Names({2})) << "another phase's change takes no turn";
  router_.set_policy(std::nullopt, Phase::kDecode);
  EXPECT_EQ(chosen(Phase::kDecode, 2), Names({1, 2})) << "a turn of its own";
  ASSERT_TRUE(router_.policy_spec(Phase::kPrefill).has_value());
  EXPECT_FALSE(router_.policy_spec(Phase::kDecode).has_value());
  router_.set_policy(std::nullopt, Phase::kPrefill);
  EXPECT_FALSE(router_.policy_spec(Phase::kPrefill).has_value());
}

TEST_F(PhasesTest, ThereIsAlwaysAPolicyForWholeRequests) {
  EXPECT_THROW(router_.set_policy(std::nullopt, Phase::kWhole), InvalidArgument);
  EXPECT_THROW(router_.set_policy(PolicySpec("no such"), Phase::kDecode), InvalidArgument);
  EXPECT_EQ(router_.policy(), "round_robin");
}

TEST_F(PhasesTest, ADecodeLegHasBlocksAndNothingToPrefill) {
  const ReservationHandle handle = reserve(Phase::kDecode);
  EXPECT_EQ(stats(0).load.requests, 1U);
  EXPECT_EQ(stats(0).load.prefill_tokens, 0U);
  EXPECT_EQ(stats(0).load.prompt_blocks, 4U);
  router_.first_token(handle.id);  // it has had it
  EXPECT_TRUE(router_.release(handle, {}));
  EXPECT_EQ(stats(0).load.prompt_blocks, 0U);
}

TEST_F(PhasesTest, APrefillLegHasItsTokensUntilItsAnswer) {
  const ReservationHandle handle = reserve(Phase::kPrefill);
  EXPECT_EQ(stats(0).load.prefill_tokens, 64U);
  router_.first_token(handle.id);
  EXPECT_EQ(stats(0).load.prefill_tokens, 0U);
  EXPECT_TRUE(router_.release(handle, {}));
  EXPECT_EQ(stats(0).load.requests, 0U);
}

}  // namespace
}  // namespace kvroute
