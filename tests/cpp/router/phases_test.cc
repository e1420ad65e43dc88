#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvroute/base/error.h"
#include "kvroute/router/router.h"

namespace kvroute {
namespace {

using Names = std::vector<std::string>;

class PhasesTest : public ::testing::Test {
 protected:
  PhasesTest() {
    for (const char* const name : {"a", "b"}) {
      router_.add_worker({.name = std::string(name),
                          .block_size = {},
                          .kv_events = {},
                          .kv_replay = {},
                          .load_events = {},
                          .total_blocks = {},
                          .labels = {}});
    }
  }

  ReservationHandle reserve(Phase phase) {
    Request request;
    request.token_ids = tokens_;
    request.phase = phase;
    return router_.reserve(request, "");
  }
  Names chosen(Phase phase, int times) {
    Names names;
    for (int i = 0; i < times; ++i) {
      const ReservationHandle handle = reserve(phase);
      names.push_back(std::get<std::string>(handle.selection.target.worker));
      EXPECT_TRUE(router_.release(handle, {}));
    }
    return names;
  }
  TargetStats stats(std::size_t target) { return router_.stats().targets[target]; }

  std::vector<std::uint32_t> tokens_ = std::vector<std::uint32_t>(64, 7);
  std::shared_ptr<VirtualClock> clock_ = std::make_shared<VirtualClock>();
  Router router_{
      {.block_size = 16, .policy = "round_robin", .memory_limit = {}, .seed = 1, .clock = clock_}};
};

TEST_F(PhasesTest, AllGoByTheRoutersPolicyUntilTheyHaveTheirOwn) {
  EXPECT_EQ(chosen(Phase::kWhole, 1), Names({"a"}));
  EXPECT_EQ(chosen(Phase::kPrefill, 1), Names({"b"})) << "one turn for all";
  router_.set_policy(PolicySpec("round_robin"), Phase::kPrefill);
  EXPECT_EQ(chosen(Phase::kPrefill, 3), Names({"a", "b", "a"}));
  EXPECT_EQ(chosen(Phase::kDecode, 2), Names({"a", "b"})) << "a turn of its own";
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
