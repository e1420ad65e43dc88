#include "kvroute/base/clock.h"

#include <gtest/gtest.h>

#include <limits>

#include "kvroute/base/error.h"

namespace kvroute {
namespace {

TEST(MonotonicClock, NeverGoesBack) {
  const MonotonicClock clock;
  Nanoseconds last = clock.now();
  for (int i = 0; i < 1000; ++i) {
    const Nanoseconds now = clock.now();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(VirtualClock, MovesOnlyWhenTold) {
  VirtualClock clock;
  EXPECT_EQ(clock.now(), 0);
  clock.advance(1.5);
  EXPECT_EQ(clock.now(), 1'500'000'000);
  clock.advance(0);
  EXPECT_EQ(clock.now(), 1'500'000'000);
}

TEST(Nanoseconds, EndWithTimeInsteadOfOverflowing) {
  constexpr Nanoseconds kEnd = std::numeric_limits<Nanoseconds>::max();
  EXPECT_EQ(after(5, 7), 12);
  EXPECT_EQ(after(kEnd - 1, 7), kEnd);
}

TEST(VirtualClock, RefusesToGoBackOrOutOfRange) {
  VirtualClock clock;
  EXPECT_THROW(clock.advance(-1), InvalidArgument);
  EXPECT_THROW(clock.advance(std::numeric_limits<double>::quiet_NaN()), InvalidArgument);
  EXPECT_THROW(clock.advance(std::numeric_limits<double>::infinity()), InvalidArgument);
  EXPECT_THROW(clock.advance(1e10), InvalidArgument);
  EXPECT_EQ(clock.now(), 0);
}

}  // namespace
}  // namespace kvroute
