#include "kvroute/base/random.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace kvroute {
namespace {

TEST(Random, RepeatsForASeedAndDiffersBetweenSeeds) {
  Random first(7);
  Random again(7);
  Random other(8);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t value = first.next();
    EXPECT_EQ(value, again.next());
    differs |= value != other.next();
  }
  EXPECT_TRUE(differs);
}

TEST(Random, BelowIsEvenAndInRange) {
  Random random(1);
  std::array<int, 7> counts{};
  constexpr int kDraws = 70'000;
  for (int i = 0; i < kDraws; ++i) ++counts.at(random.below(counts.size()));
  for (const int count : counts) EXPECT_NEAR(count, kDraws / 7, 500);
}

TEST(Random, BelowAHugeBoundStaysInRange) {
  Random random(2);
  constexpr std::uint64_t kBound = (1ULL << 63) + 1;
  for (int i = 0; i < 1000; ++i) EXPECT_LT(random.below(kBound), kBound);
  EXPECT_EQ(random.below(1), 0U);
}

TEST(Random, UniformIsBelowOne) {
  Random random(3);
  double sum = 0;
  for (int i = 0; i < 10'000; ++i) {
    const double value = random.uniform();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    sum += value;
  }
  EXPECT_NEAR(sum / 10'000, 0.5, 0.02);
}

}  // namespace
}  // namespace kvroute
