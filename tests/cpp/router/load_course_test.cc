// What a router tells its load model of a request.

#include <gtest/gtest.h>

#include "kvroute/base/error.h"
#include "router_fixture.h"

namespace kvroute {
namespace {

TEST(LoadCourse, ReachesTheTargetsStatistics) {
  RouterFixture fixture;
  fixture.clock->advance(5);
  fixture.add(1);
  const auto tokens = tokens_from(0, 320);
  Request request = request_for(tokens);
  request.expected_output_tokens = 64;
  const PrefillModel prefill;

  fixture.clock->advance(1);
  const ReservationHandle first = fixture.router.reserve(request, "");
  const ReservationHandle second = fixture.router.reserve(request, "");
  TargetLoad load = fixture.router.stats().targets[0].load;
  EXPECT_EQ(load.joined_at, seconds_to_ns(5));
  EXPECT_EQ(load.prefilling, 2U);
  EXPECT_DOUBLE_EQ(load.backlog_seconds, prefill.seconds(320, 0)) << "the second shares it all";
  EXPECT_EQ(load.head_started, seconds_to_ns(6));
  EXPECT_EQ(load.expected_output_blocks, 8U);
  EXPECT_EQ(load.recent_requests.value(seconds_to_ns(6), 30), 2);

  fixture.clock->advance(2 * prefill.seconds(320, 0));
  fixture.router.first_token(first.id);
  fixture.router.progress(first.id, 32);
  load = fixture.router.stats().targets[0].load;
  EXPECT_EQ(load.backlog_seconds, 0);
  EXPECT_NEAR(load.prefill_scale.value(), 2, 1e-6);
  EXPECT_EQ(load.expected_output_blocks, 6U);

  EXPECT_TRUE(fixture.router.release(first));
  EXPECT_TRUE(fixture.router.release(second));
  EXPECT_FALSE(fixture.router.release(second));
  load = fixture.router.stats().targets[0].load;
  EXPECT_EQ(load.requests, 0U);
  EXPECT_EQ(load.prefilling, 0U);
  EXPECT_EQ(load.active_blocks() + load.expected_output_blocks, 0U);
}

TEST(LoadCourse, ARouterRefusesAPrefillModelOutOfRange) {
  RouterOptions options;
  options.block_size = 16;
  options.prefill.tokens_per_second = 0;
  EXPECT_THROW(Router{options}, InvalidArgument);
}

}  // namespace
}  // namespace kvroute
