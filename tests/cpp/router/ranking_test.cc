#include "router/ranking.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <limits>
#include <vector>

#include "policy/score_input_builder.h"

namespace kvroute::detail {
namespace {

using Positions = std::vector<std::size_t>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(BestFirst, TheLeastCostsFirstAndNoCostsLast) {
  const ScoreInputBuilder fleet(6);
  const std::vector<double> costs{3, kInfinity, -1, kNaN, 0, 7};
  EXPECT_EQ(best_first(fleet.input(), costs, 6), Positions({2, 4, 0, 5, 1, 3}));
}

TEST(BestFirst, AsManyAsAreWanted) {
  const ScoreInputBuilder fleet(4);
  const std::vector<double> costs{4, 3, 2, 1};
  EXPECT_EQ(best_first(fleet.input(), costs, 2), Positions({3, 2}));
  EXPECT_EQ(best_first(fleet.input(), costs, 0), Positions());
  EXPECT_EQ(best_first(fleet.input(), costs, 99), Positions({3, 2, 1, 0}));
}

TEST(BestFirst, EqualCostsByTheTokensThatBookingsUse) {
  ScoreInputBuilder fleet(3);
  fleet.loads[0].prompt_blocks = 5;
  fleet.loads[1].output_blocks = 4;
  fleet.loads[2].prompt_blocks = 3;
  fleet.block_sizes[2] = 32;
  const std::vector<double> equal{1, 1, 1};
  EXPECT_EQ(best_first(fleet.input(), equal, 3), Positions({1, 0, 2}));
  EXPECT_EQ(best_first(fleet.input(), {}, 3), Positions({1, 0, 2})) << "a policy without costs";
  const std::vector<double> unequal{1, 2, 0};
  EXPECT_EQ(best_first(fleet.input(), unequal, 3), Positions({2, 0, 1})) << "the cost comes first";
}

TEST(BestFirst, EqualsGoAroundFromTheChosenOneWhichIsLeftOut) {
  const ScoreInputBuilder fleet(4);
  const std::vector<double> equal(4, 1.0);
  EXPECT_EQ(best_first(fleet.input(), equal, 4), Positions({0, 1, 2, 3}));
  EXPECT_EQ(best_first(fleet.input(), equal, 4, 1), Positions({2, 3, 0}));
  EXPECT_EQ(best_first(fleet.input(), {}, 2, 3), Positions({0, 1}));
  EXPECT_EQ(best_first(fleet.input(), equal, 4, 0), Positions({1, 2, 3}));
}

TEST(BestFirst, OfCandidatesAloneBySlot) {
  ScoreInputBuilder fleet(6);
  fleet.candidates = {1, 3, 5};
  for (Slot slot = 0; slot < 6; ++slot) fleet.loads[slot].prompt_blocks = 10 - slot;
  EXPECT_EQ(best_first(fleet.input(), {}, 9), Positions({2, 1, 0}));
  EXPECT_EQ(best_first(fleet.input(), {}, 9, 1), Positions({2, 0}));
}

}  // namespace
}  // namespace kvroute::detail
