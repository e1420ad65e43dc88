#include <gtest/gtest.h>

#include <optional>

#include "hashes.h"
#include "kvroute/base/error.h"

namespace kvroute::testing {
namespace {

const Hashes kLabels = hashes(10, 1);
const Hashes kNames = hashes(10, 2);
constexpr Nanoseconds kSecond = 1'000'000'000;

PrefixTree ten_seconds() { return PrefixTree({.memory_limit = {}, .predicted_ttl_seconds = 10}); }

TEST(Predict, MakesBlocksReachableUntilTheirTimeIsUp) {
  PrefixTree tree = ten_seconds();
  EXPECT_EQ(tree.predict(0, kLabels, 0), 10U);
  EXPECT_EQ(held(tree, 0, kLabels), 10U);
  EXPECT_EQ(tree.expire(10 * kSecond - 1), 0U);
  EXPECT_EQ(held(tree, 0, kLabels), 10U);
  EXPECT_EQ(tree.expire(10 * kSecond), 10U);
  EXPECT_EQ(held(tree, 0, kLabels), 0U);
  EXPECT_EQ(tree.stats().blocks, 0U);
}

TEST(Predict, AgainProlongs) {
  PrefixTree tree = ten_seconds();
  tree.predict(0, kLabels, 0);
  EXPECT_EQ(tree.predict(0, part(kLabels, 0, 4), 5 * kSecond), 0U);
  EXPECT_EQ(tree.expire(12 * kSecond), 6U);
  EXPECT_EQ(held(tree, 0, kLabels), 4U);
  EXPECT_EQ(tree.expire(15 * kSecond), 4U);
}

TEST(Predict, IsConfirmedByAnExactStore) {
  PrefixTree tree = ten_seconds();
  tree.predict(0, kLabels, 0);
  const StoreResult stored = tree.store(0, std::nullopt, part(kNames, 0, 6), part(kLabels, 0, 6));
  EXPECT_EQ(stored.applied, 6U);
  EXPECT_EQ(stored.confirmed, 6U);
  EXPECT_EQ(tree.expire(100 * kSecond), 4U);
  EXPECT_EQ(held(tree, 0, kLabels), 6U);
}

TEST(Predict, DoesNotSurviveTheRemovalOfTheConfirmedBlock) {
  PrefixTree tree = ten_seconds();
  tree.predict(0, kLabels, 0);
  tree.store(0, std::nullopt, kNames, kLabels);
  tree.remove(0, kNames);
  EXPECT_EQ(held(tree, 0, kLabels), 0U);
}

TEST(Predict, LeavesExactBlocksExact) {
  PrefixTree tree = ten_seconds();
  tree.store(0, std::nullopt, part(kNames, 0, 6), part(kLabels, 0, 6));
  EXPECT_EQ(tree.predict(0, kLabels, 0), 4U);
  tree.expire(100 * kSecond);
  EXPECT_EQ(held(tree, 0, kLabels), 6U);
}

TEST(Predict, ExpiresOnBothSidesOfALaterSplit) {
  PrefixTree tree = ten_seconds();
  tree.predict(0, kLabels, 0);
  tree.store(1, std::nullopt, hashes(10, 5), joined(part(kLabels, 0, 5), hashes(5, 4)));
  EXPECT_EQ(tree.expire(10 * kSecond), 10U);
  EXPECT_EQ(tree.stats().blocks, 10U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(Predict, KeepsItsExpiryQueueInBounds) {
  PrefixTree tree = ten_seconds();
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    tree.predict(0, hashes(3, i + 1), 0);
    tree.clear(0);
  }
  EXPECT_LT(tree.stats().bytes.requests, 10'000U);
}

TEST(Predict, RefusesATimeToLiveThatIsNone) {
  EXPECT_THROW(PrefixTree({.memory_limit = {}, .predicted_ttl_seconds = 0}), InvalidArgument);
}

}  // namespace
}  // namespace kvroute::testing
