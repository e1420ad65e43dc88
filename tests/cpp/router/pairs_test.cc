#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "explanation_figures.h"
#include "kvroute/base/error.h"
#include "router_fixture.h"

namespace kvroute {
namespace {

using Labels = std::map<std::string, std::string>;

/// Workers 0 and 1 prefill, 2 and 3 decode; 0 and 2 are on one host, 1 and 3 on another.
class PairsTest : public ::testing::Test {
 protected:
  PairsTest() {
    for (const std::int64_t worker : {0, 1, 2, 3}) {
      add(worker, {{"zone", "z"}, {"host", worker % 2 == 0 ? "a" : "b"}});
    }
  }

  void add(std::int64_t worker, const Labels& labels) {
    router_.add_worker({.name = worker,
                        .block_size = {},
                        .kv_events = {},
                        .kv_replay = {},
                        .load_events = {},
                        .total_blocks = 64,
                        .labels = labels});
  }
  [[nodiscard]] PairRequest request(const std::vector<std::uint32_t>& tokens) const {
    return {.prefill = request_for(tokens, &prefill_), .decode = request_for(tokens, &decode_)};
  }
  TargetStats stats(std::size_t target) { return router_.stats().targets[target]; }
  static std::int64_t worker_of(const TargetId& target) {
    return std::get<std::int64_t>(target.worker);
  }
  static std::int64_t worker_of(const ReservationHandle& handle) {
    return worker_of(handle.selection.target);
  }

  std::vector<WorkerRef> prefill_{{std::int64_t{0}, {}}, {std::int64_t{1}, {}}};
  std::vector<WorkerRef> decode_{{std::int64_t{2}, {}}, {std::int64_t{3}, {}}};
  std::vector<std::uint32_t> tokens_ = tokens_from(0, 320);
  RouterFixture fixture_{"kv_cost", 10};
  Router& router_ = fixture_.router;
};

TEST_F(PairsTest, BothLegsAreBookedAsTheirPhasesAre) {
  const ReservedPair pair = router_.reserve_pair(request(tokens_), "r");
  const std::int64_t prefill = worker_of(pair.prefill);
  const std::int64_t decode = worker_of(pair.decode);
  EXPECT_LT(prefill, 2);
  EXPECT_GE(decode, 2);
  EXPECT_EQ(pair.prefill.request_id, "r/prefill");
  EXPECT_EQ(pair.decode.request_id, "r/decode");
  EXPECT_EQ(pair.prefill.selection.rule, "joint");
  EXPECT_EQ(pair.prefill.selection.cost, pair.decode.selection.cost);
  EXPECT_EQ(stats(static_cast<std::size_t>(prefill)).load.prefill_tokens, 320U);
  EXPECT_EQ(stats(static_cast<std::size_t>(decode)).load.prefill_tokens, 0U);
  EXPECT_EQ(stats(static_cast<std::size_t>(decode)).load.prompt_blocks, 20U);
  EXPECT_EQ(router_.stats().reservations, 2U);
  EXPECT_THROW((void)router_.reserve_pair(request(tokens_), "r"), InvalidArgument);
  EXPECT_TRUE(router_.release(pair.prefill));
  EXPECT_THROW((void)router_.reserve_pair(request(tokens_), "r"), InvalidArgument);
  EXPECT_TRUE(router_.release(pair.decode));
  EXPECT_EQ(router_.stats().reservations, 0U);
}

TEST_F(PairsTest, TheWayCountsAsItIsConfigured) {
  router_.set_pair_options({.same_host = 0, .same_zone = 1, .elsewhere = 1});
  for (int i = 0; i < 8; ++i) {
    const auto tokens = tokens_from(static_cast<std::uint32_t>(1'000 * i), 16);
    const ReservedPair pair = router_.reserve_pair(request(tokens), "");
    EXPECT_EQ(worker_of(pair.prefill) % 2, worker_of(pair.decode) % 2);
  }
  EXPECT_THROW(router_.set_pair_options({.same_host = 2, .same_zone = 1}), InvalidArgument);
  EXPECT_EQ(router_.pair_options().same_zone, 1);
}

// What a worker's label says goes with it: its slot may be another's.
TEST_F(PairsTest, PlacesFollowTheLabels) {
  router_.set_pair_options({.same_host = 0, .same_zone = 1, .elsewhere = 2});
  router_.remove_worker(std::int64_t{2});
  add(4, {{"zone", "z"}, {"host", "b"}});
  decode_ = {{std::int64_t{4}, {}}};
  EXPECT_EQ(worker_of(router_.explain_pair(request(tokens_)).prefill_target), 1);
  router_.remove_worker(std::int64_t{4});
  add(4, {{"zone", "z"}, {"host", "a"}});
  EXPECT_EQ(worker_of(router_.explain_pair(request(tokens_)).prefill_target), 0);
  router_.remove_worker(std::int64_t{4});
  add(4, {{"host", "a"}});
  const auto terms = router_.explain_pair(request(tokens_)).prefill.targets.front().terms;
  EXPECT_EQ(terms[2].name, "transfer_seconds");
  EXPECT_EQ(terms[2].value, 2 * 320.0) << "a host of another zone";
}

TEST_F(PairsTest, AnErrorNamesTheLegThatNobodyIsThereFor) {
  router_.set_draining(std::int64_t{2}, true);
  EXPECT_GE(worker_of(router_.reserve_pair(request(tokens_), "").decode), 3);
  const auto refused = [&]() -> std::optional<NoEligibleWorker> {
    try {
      (void)router_.reserve_pair(request(tokens_), "");
    } catch (const NoEligibleWorker& error) {
      return error;
    }
    return std::nullopt;
  };
  router_.set_draining(std::int64_t{3}, true);
  ASSERT_TRUE(refused().has_value());
  EXPECT_EQ(refused()->phase(), Phase::kDecode);
  EXPECT_STREQ(refused()->what(),
               "no eligible worker for the decode among 4 targets: 2 not in allowed, 2 draining");
  router_.set_draining(std::int64_t{3}, false);
  router_.set_draining(std::int64_t{0}, true);
  router_.set_draining(std::int64_t{1}, true);
  ASSERT_TRUE(refused().has_value());
  EXPECT_EQ(refused()->phase(), Phase::kPrefill);
  EXPECT_EQ(router_.stats().reservations, 2U) << "nothing of those that were refused";
}

TEST_F(PairsTest, ExplainTellsThePairThatComesAndTheLogThePairThatCame) {
  for (int i = 0; i < 4; ++i) {
    const auto tokens = tokens_from(static_cast<std::uint32_t>(100 * i), 200);
    const PairExplanation told = router_.explain_pair(request(tokens));
    const ReservedPair pair = router_.reserve_pair(request(tokens), "r" + std::to_string(i));
    EXPECT_EQ(told.prefill_target, pair.prefill.selection.target);
    EXPECT_EQ(told.decode_target, pair.decode.selection.target);
    const auto records = router_.recent_decisions(2);
    EXPECT_EQ(records[0].request_id, "r" + std::to_string(i) + "/prefill");
    EXPECT_EQ(records[0].chosen, told.prefill_target);
    EXPECT_EQ(records[1].chosen, told.decode_target);
    EXPECT_EQ(figures_of(records[0].explanation), figures_of(told.prefill));
    EXPECT_EQ(figures_of(records[1].explanation), figures_of(told.decode));
    EXPECT_EQ(told.decode.rule, "joint");
    for (const TargetExplanation& target : told.decode.targets) {
      if (!target.eligible) continue;
      double sum = 0;
      for (std::size_t term = 0; term < 4; ++term) sum += target.terms[term].value;
      EXPECT_DOUBLE_EQ(sum, *target.cost);
      if (target.target == told.decode_target) {
        EXPECT_EQ(target.cost, pair.decode.selection.cost);
      }
    }
  }
}

TEST_F(PairsTest, OneWorkerMayHaveBothLegs) {
  prefill_ = decode_ = {{std::int64_t{2}, {}}};
  const ReservedPair pair = router_.reserve_pair(request(tokens_), "");
  EXPECT_EQ(stats(2).load.requests, 2U);
  EXPECT_EQ(stats(2).load.prompt_blocks, 20U) << "one prompt";
  EXPECT_TRUE(router_.release(pair.prefill));
  EXPECT_EQ(stats(2).load.prompt_blocks, 20U);
  EXPECT_TRUE(router_.release(pair.decode));
  EXPECT_EQ(stats(2).load.prompt_blocks, 0U);
}

}  // namespace
}  // namespace kvroute
