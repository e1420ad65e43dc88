// Selection::alternatives of decisions.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "kvroute/base/error.h"
#include "kvroute/base/random.h"
#include "router_fixture.h"

namespace kvroute {
namespace {

class AlternativesTest : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr std::int64_t kWorkers = 5;

  AlternativesTest() {
    for (std::int64_t worker = 0; worker < kWorkers; ++worker) {
      named_.add(worker, 2);
      plain_.add(worker, 2);
    }
  }

  /// The same random traffic to both routers, of which one names alternatives.
  void go_on(Random& random) {
    const auto tokens =
        tokens_from(static_cast<std::uint32_t>(random.below(4)) * 1'000, 1 + random.below(400));
    Request request = request_for(tokens);
    const bool is_booked = random.below(3) > 0;
    const ReservationHandle plain =
        is_booked ? plain_.router.reserve(request, "") : ReservationHandle{};
    const Selection unbooked = is_booked ? plain.selection : plain_.router.select(request);
    request.alternatives = kMaxTargets;
    const Explanation explanation = named_.router.explain(request);
    const ReservationHandle named =
        is_booked ? named_.router.reserve(request, "") : ReservationHandle{};
    const Selection chosen = is_booked ? named.selection : named_.router.select(request);
    EXPECT_EQ(chosen.target, unbooked.target) << "naming others changes no choice";
    EXPECT_EQ(chosen.cost, unbooked.cost);
    EXPECT_TRUE(unbooked.alternatives.empty());
    expect_order(chosen, explanation);
    if (!is_booked) return;
    named_bookings_.push_back(named);
    plain_bookings_.push_back(plain);
    if (random.below(3) == 0) {
      const std::size_t at = random.below(named_bookings_.size());
      named_.router.release(named_bookings_[at]);
      plain_.router.release(plain_bookings_[at]);
    }
  }

  RouterFixture named_{GetParam()};
  RouterFixture plain_{GetParam()};

 private:
  static void expect_order(const Selection& chosen, const Explanation& explanation) {
    ASSERT_EQ(chosen.alternatives.size(), explanation.targets.size() - 1);
    const auto explained = [&](const TargetId& target) -> const TargetExplanation& {
      return *std::ranges::find(explanation.targets, target, &TargetExplanation::target);
    };
    std::vector<TargetId> all = chosen.alternatives;
    all.push_back(chosen.target);
    std::ranges::sort(all, {}, [](const TargetId& t) { return std::pair(t.worker, t.dp_rank); });
    EXPECT_EQ(std::ranges::unique(all).begin(), all.end()) << "each target once";
    std::vector<std::optional<double>> costs;
    for (const TargetId& target : chosen.alternatives) costs.push_back(explained(target).cost);
    std::vector<std::optional<double>> expected;
    for (const TargetExplanation& target : explanation.targets) {
      if (target.target != chosen.target) expected.push_back(target.cost);
    }
    EXPECT_EQ(costs, expected) << "the order of the explanation";
  }

  std::vector<ReservationHandle> named_bookings_;
  std::vector<ReservationHandle> plain_bookings_;
};

TEST_P(AlternativesTest, AreAllOthersInTheOrderOfTheExplanation) {
  Random random(11);
  for (int step = 0; step < 200; ++step) {
    go_on(random);
    const double later = 0.2 * random.uniform();
    named_.clock->advance(later);
    plain_.clock->advance(later);
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, AlternativesTest,
                         ::testing::Values("kv_cost", "kv_delay", "ttft", "least_load", "preble",
                                           "cache_aware", "session", "round_robin", "random"));

TEST(Alternatives, AreEligible) {
  RouterFixture fixture;
  for (const std::int64_t worker : {1, 2, 3, 4}) fixture.add(worker, 2);
  fixture.router.set_draining(WorkerName(2), true);
  const std::vector<WorkerRef> allowed{
      {.worker = 1, .dp_rank = 1}, {.worker = 2, .dp_rank = {}}, {.worker = 3, .dp_rank = 0}};
  const auto tokens = tokens_from(0, 100);
  Request request = request_for(tokens, &allowed);
  request.alternatives = 8;
  const Selection chosen = fixture.router.select(request);
  ASSERT_EQ(chosen.alternatives.size(), 1U);
  const TargetId first{.worker = 1, .dp_rank = 1};
  const TargetId third{.worker = 3, .dp_rank = 0};
  EXPECT_EQ(chosen.alternatives.front(), chosen.target == first ? third : first);
}

TEST(Alternatives, AreNoMoreThanTargetsThereMayBe) {
  RouterFixture fixture;
  fixture.add(1);
  const auto tokens = tokens_from(0, 100);
  Request request = request_for(tokens);
  request.alternatives = kMaxTargets;
  EXPECT_TRUE(fixture.router.select(request).alternatives.empty());
  request.alternatives = kMaxTargets + 1;
  EXPECT_THROW((void)fixture.router.select(request), InvalidArgument);
  EXPECT_THROW((void)fixture.router.reserve(request, ""), InvalidArgument);
}

TEST(Alternatives, ByTheCostsThatTheCallerGives) {
  RouterFixture fixture;
  for (const std::int64_t worker : {0, 1, 2, 3}) fixture.add(worker);
  const auto tokens = tokens_from(0, 100);
  Request request = request_for(tokens);
  request.alternatives = 4;
  const Features features = fixture.router.features(request);
  const std::vector<double> costs{3, 0, 2, 1};
  const GivenCosts given{.features = &features, .costs = costs, .rule = {}};
  request.given = &given;
  fixture.add(4);  // of whom the costs say nothing: last
  const Selection chosen = fixture.router.select(request);
  EXPECT_EQ(chosen.target.worker, WorkerName(1));
  std::vector<WorkerName> others;
  for (const TargetId& target : chosen.alternatives) others.push_back(target.worker);
  EXPECT_EQ(others, std::vector<WorkerName>({3, 2, 0, 4}));
}

}  // namespace
}  // namespace kvroute
