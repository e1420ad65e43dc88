#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "counted_allocations.h"
#include "router_fixture.h"

namespace kvroute {
namespace {

TEST(RouterAllocation, NoneForALoggedDecisionOnceTheLogIsFull) {
  constexpr std::size_t kKept = 40;
  RouterFixture fixture("kv_cost", kKept);
  for (std::int64_t worker = 0; worker < 6; ++worker) fixture.add(worker);
  const auto tokens = tokens_from(0, 300);
  const std::vector<WorkerRef> some{{.worker = 1, .dp_rank = {}}, {.worker = 3, .dp_rank = {}}};
  const auto decide = [&](int times) {
    for (int i = 0; i < times; ++i) {
      Request request = request_for(tokens, i % 3 == 0 ? &some : nullptr);
      if (i % 2 == 0) request.overrides.overlap_credit = 0.5;
      (void)fixture.router.select(request);
    }
  };
  decide(1'000);
  const std::size_t before = testing::allocations;
  decide(300);
  EXPECT_EQ(testing::allocations, before);
  EXPECT_EQ(fixture.router.recent_decisions(1'000).size(), kKept);
}

}  // namespace
}  // namespace kvroute
