#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "explanation_figures.h"
#include "kvroute/base/random.h"
#include "router_fixture.h"

namespace kvroute {
namespace {

// Two policies' figures: one that reads much of a load, and one that reads the engine's words.
class DecisionLogOf : public testing::TestWithParam<const char*> {};

TEST_P(DecisionLogOf, TellsOfAnyNumberOfTheLastWhatTheyRestedOn) {
  constexpr std::size_t kKept = 20;
  RouterFixture fixture(GetParam(), kKept);
  for (const int worker : {1, 2, 3, 4, 5}) fixture.add(worker);
  Random random(3);
  std::vector<std::vector<double>> expected;
  std::vector<ReservationHandle> running;
  for (int step = 0; step < 150; ++step) {
    const auto tokens = tokens_from(0, 16 + random.below(200));
    // One target is never chosen after a while, and its load does not change.
    const std::vector<WorkerRef> some{{.worker = 1, .dp_rank = {}}, {.worker = 3, .dp_rank = {}}};
    const Request request = request_for(tokens, step > 30 && step % 2 == 0 ? &some : nullptr);
    expected.push_back(figures_of(fixture.router.explain(request)));
    running.push_back(fixture.router.reserve(request, ""));
    if (random.below(2) == 0) fixture.router.first_token(running[random.below(running.size())].id);
    if (random.below(2) == 0) (void)fixture.router.release(running[random.below(running.size())]);
    const auto worker = static_cast<std::int64_t>(1 + random.below(4));
    fixture.router.update_load(
        worker, 0,
        {.waiting = static_cast<std::uint32_t>(random.below(6)), .running = {}, .kv_usage = 0.5});
    fixture.clock->advance(random.uniform());
    for (const std::size_t limit : {std::size_t{1}, std::size_t{7}, kKept, std::size_t{1'000}}) {
      const auto decisions = fixture.router.recent_decisions(limit);
      ASSERT_EQ(decisions.size(), std::min({limit, kKept, expected.size()}));
      for (std::size_t i = 0; i < decisions.size(); ++i) {
        ASSERT_EQ(figures_of(decisions[i].explanation),
                  expected[expected.size() - decisions.size() + i])
            << step << ' ' << limit << ' ' << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, DecisionLogOf,
                         testing::Values("kv_delay", "weighted", "preble", "qps"));

}  // namespace
}  // namespace kvroute
