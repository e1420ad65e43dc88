// Whose turn it is while workers come and go.

#include <gtest/gtest.h>

#include "router_fixture.h"

namespace kvroute {
namespace {

WorkerName next_of(RouterFixture& fixture) {
  const auto tokens = tokens_from(0, 32);
  return fixture.router.select(request_for(tokens)).target.worker;
}

TEST(RoundRobinOfARouter, GoesOnAfterAWorkerThatIsGone) {
  RouterFixture fixture("round_robin");
  for (const int worker : {1, 2, 3, 4}) fixture.add(worker);
  EXPECT_EQ(next_of(fixture), WorkerName(1));
  EXPECT_EQ(next_of(fixture), WorkerName(2));
  fixture.router.remove_worker(WorkerName(2));
  EXPECT_EQ(next_of(fixture), WorkerName(3));
  EXPECT_EQ(next_of(fixture), WorkerName(4));
}

TEST(RoundRobinOfARouter, GoesOnWhereANewWorkerTakesTheSlot) {
  RouterFixture fixture("round_robin");
  for (const int worker : {1, 2, 3}) fixture.add(worker);
  EXPECT_EQ(next_of(fixture), WorkerName(1));
  EXPECT_EQ(next_of(fixture), WorkerName(2));
  fixture.router.remove_worker(WorkerName(2));
  fixture.add(9);
  for (const int expected : {3, 9, 1, 3}) EXPECT_EQ(next_of(fixture), WorkerName(expected));
}

}  // namespace
}  // namespace kvroute
