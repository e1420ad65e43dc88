#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "hashes.h"
#include "kvroute/base/error.h"

namespace kvroute::testing {
namespace {

constexpr Nanoseconds kSecond = 1'000'000'000;
const Hashes kFirst = hashes(10, 1);
const Hashes kSecondPrompt = hashes(10, 2);
const Hashes kThird = hashes(10, 3);

/// A tree whose slot 0 is assumed to hold at most `blocks`.
PrefixTree bounded(std::uint32_t blocks) {
  PrefixTree tree;
  tree.set_capacity(0, blocks);
  return tree;
}

TEST(Capacity, TakesThePlaceOfTheTime) {
  PrefixTree tree = bounded(100);
  tree.predict(0, kFirst, 0);
  tree.predict(1, kFirst, 0);
  EXPECT_EQ(tree.expire(1'000'000 * kSecond), 10U);
  EXPECT_EQ(held(tree, 0, kFirst), 10U);
  EXPECT_EQ(held(tree, 1, kFirst), 0U);
}

TEST(Capacity, LetsTheLeastRecentlyPredictedGoFromTheirEnd) {
  PrefixTree tree = bounded(25);
  tree.predict(0, kFirst, 0);
  tree.predict(0, kSecondPrompt, 0);
  EXPECT_EQ(tree.predict(0, kThird, 0), 10U);
  EXPECT_EQ(held(tree, 0, kFirst), 5U);
  EXPECT_EQ(held(tree, 0, kSecondPrompt), 10U);
  EXPECT_EQ(held(tree, 0, kThird), 10U);
  EXPECT_EQ(tree.held_blocks(0), 25U);
  EXPECT_EQ(tree.stats().outlived, 5U);
  EXPECT_EQ(tree.stats().blocks, 25U);
}

// Nodes take the numbers of nodes that have gone, and with them what was queued for these.
TEST(Capacity, LetsTheDeepestGoFirstAfterNodesHaveMergedAndSplit) {
  const Hashes path = hashes(40, 1);
  const auto branch_at = [&path](std::uint32_t depth) {
    Hashes branch = part(path, 0, depth);
    branch.push_back(depth);
    return branch;
  };
  PrefixTree tree = bounded(40);
  tree.predict(0, path, 0);
  tree.predict(1, branch_at(20), 0);
  tree.clear(1);
  tree.predict(1, branch_at(10), 0);
  tree.predict(1, branch_at(15), 0);
  tree.set_capacity(0, 14);
  tree.predict(0, hashes(1, 7), 0);
  EXPECT_EQ(held(tree, 0, path), 13U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(Capacity, CountsABlockAsUsedWhenItIsPredictedAgain) {
  PrefixTree tree = bounded(20);
  tree.predict(0, kFirst, 0);
  tree.predict(0, kSecondPrompt, 0);
  tree.predict(0, part(kFirst, 0, 6), 0);
  tree.predict(0, part(kThird, 0, 4), 0);
  EXPECT_EQ(held(tree, 0, kFirst), 6U) << "its last four were the least recently predicted";
  EXPECT_EQ(held(tree, 0, kSecondPrompt), 10U);
  tree.predict(0, kThird, 0);
  EXPECT_EQ(held(tree, 0, kFirst), 6U);
  EXPECT_EQ(held(tree, 0, kSecondPrompt), 4U);
}

TEST(Capacity, KeepsTheBeginningOfARequestThatIsLongerThanIt) {
  PrefixTree tree = bounded(4);
  EXPECT_EQ(tree.predict(0, kFirst, 0), 10U);
  EXPECT_EQ(held(tree, 0, kFirst), 4U);
  EXPECT_EQ(tree.stats().outlived, 6U);
  EXPECT_EQ(tree.stats().blocks, 4U);
}

TEST(Capacity, SparesWhatRunningRequestsUseUntilTheyEnd) {
  PrefixTree tree = bounded(10);
  const Pin pin = tree.pin(0, part(kFirst, 0, 6)).pin;
  tree.predict(0, kFirst, 0);
  tree.predict(0, kSecondPrompt, 0);
  EXPECT_EQ(held(tree, 0, kFirst), 6U);
  EXPECT_EQ(held(tree, 0, kSecondPrompt), 4U) << "what was just predicted makes room at last";
  tree.predict(0, part(kSecondPrompt, 0, 1), 0);
  EXPECT_EQ(held(tree, 0, kFirst), 6U);
  tree.unpin(0, pin);
  EXPECT_EQ(held(tree, 0, kFirst), 6U);
  tree.predict(0, kSecondPrompt, 0);
  EXPECT_EQ(held(tree, 0, kFirst), 0U);
  EXPECT_EQ(held(tree, 0, kSecondPrompt), 10U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(Capacity, IsExceededByPinsOnly) {
  PrefixTree tree = bounded(5);
  const Pin pin = tree.pin(0, kFirst).pin;
  tree.predict(0, kFirst, 0);
  EXPECT_EQ(tree.held_blocks(0), 10U);
  tree.unpin(0, pin);
  tree.predict(0, part(kSecondPrompt, 0, 1), 0);
  EXPECT_EQ(tree.held_blocks(0), 5U);
  EXPECT_EQ(held(tree, 0, kFirst), 4U);
}

TEST(Capacity, SparesNothingForPinsOnAnotherSlot) {
  PrefixTree tree = bounded(10);
  const Pin pin = tree.pin(1, kFirst).pin;
  tree.predict(0, kFirst, 0);
  tree.predict(0, kSecondPrompt, 0);
  EXPECT_EQ(held(tree, 0, kFirst), 0U);
  EXPECT_EQ(tree.unpin(1, pin), 10U);
}

TEST(Capacity, FindsItsBlocksAfterOthersHaveSplitTheirNode) {
  PrefixTree tree = bounded(20);
  tree.predict(0, kFirst, 0);
  for (std::size_t at = 1; at < 10; at += 2) {
    tree.store(1, std::nullopt, hashes(at + 1, 100 + at),
               joined(part(kFirst, 0, at), hashes(1, 200 + at)));
  }
  tree.predict(0, kSecondPrompt, 0);
  tree.predict(0, part(kThird, 0, 7), 0);
  EXPECT_EQ(held(tree, 0, kFirst), 3U);
  EXPECT_EQ(tree.audit(), std::nullopt);
  tree.clear(1);
  tree.predict(0, kThird, 0);
  EXPECT_EQ(held(tree, 0, kFirst), 0U);
  EXPECT_EQ(held(tree, 0, kSecondPrompt), 10U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(Capacity, DoesNotCountWhatEventsConfirmed) {
  PrefixTree tree = bounded(10);
  tree.predict(0, kFirst, 0);
  tree.store(0, std::nullopt, hashes(10, 7), kFirst);
  tree.predict(0, kSecondPrompt, 0);
  tree.predict(0, kThird, 0);
  EXPECT_EQ(held(tree, 0, kFirst), 10U);
  EXPECT_EQ(held(tree, 0, kSecondPrompt), 0U);
  EXPECT_EQ(held(tree, 0, kThird), 10U);
}

TEST(Capacity, SurvivesClearAndEndsWithTheSlotsRelease) {
  PrefixTree tree = bounded(10);
  tree.predict(0, kFirst, 0);
  tree.clear(0);
  tree.predict(0, joined(kFirst, hashes(10, 8)), 0);
  EXPECT_EQ(tree.held_blocks(0), 10U);
  tree.release_slot(0);
  tree.predict(0, joined(kFirst, hashes(10, 8)), 0);
  EXPECT_EQ(tree.held_blocks(0), 20U);
  EXPECT_EQ(tree.expire(1'000 * kSecond), 20U);
}

TEST(Capacity, AppliesFromTheNextPredictionOn) {
  PrefixTree tree = bounded(10);
  tree.predict(0, kFirst, 0);
  tree.set_capacity(0, 4);
  EXPECT_EQ(tree.held_blocks(0), 10U);
  tree.predict(0, part(kSecondPrompt, 0, 1), 0);
  EXPECT_EQ(tree.held_blocks(0), 4U);
  tree.set_capacity(0, std::nullopt);
  tree.predict(0, kThird, 0);
  EXPECT_EQ(tree.held_blocks(0), 14U);
  EXPECT_EQ(tree.expire(1'000 * kSecond), 10U);
}

TEST(Capacity, LeavesWhatWasPredictedWithATimeToItsTime) {
  PrefixTree tree;
  tree.predict(0, kFirst, 0);
  tree.set_capacity(0, 12);
  tree.predict(0, kSecondPrompt, 0);
  EXPECT_EQ(held(tree, 0, kFirst), 10U);
  EXPECT_EQ(held(tree, 0, kSecondPrompt), 2U);
  EXPECT_EQ(tree.expire(1'000 * kSecond), 10U);
  tree.predict(0, kSecondPrompt, 0);
  EXPECT_EQ(held(tree, 0, kSecondPrompt), 10U);
}

TEST(Capacity, AndTheOrderOfPredictionsOutliveASnapshot) {
  PrefixTree tree = bounded(20);
  tree.predict(0, kFirst, 0);
  tree.predict(0, kSecondPrompt, 0);
  tree.predict(0, part(kFirst, 0, 3), 0);
  tree.restore(tree.snapshot(0), 0);
  EXPECT_EQ(tree.held_blocks(0), 20U);
  tree.predict(0, kThird, 0);
  EXPECT_EQ(held(tree, 0, kFirst), 3U);
  EXPECT_EQ(held(tree, 0, kSecondPrompt), 7U);
  EXPECT_EQ(held(tree, 0, kThird), 10U);
  EXPECT_EQ(tree.expire(1'000 * kSecond), 0U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(Capacity, KeepsItsQueuesInBounds) {
  PrefixTree tree = bounded(300);
  std::size_t most = 0;
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    tree.predict(0, joined(hashes(5, 1), hashes(5, 10 + i % 40)), 0);
    if (i % 7 == 0) tree.store(1, std::nullopt, hashes(8, 5), part(hashes(10, 1), 0, 8));
    if (i % 7 == 3) tree.clear(1);
    most = std::max(most, tree.stats().bytes.requests);
  }
  EXPECT_LT(most, 20'000U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(Capacity, RefusesNone) {
  PrefixTree tree;
  EXPECT_THROW(tree.set_capacity(0, 0), InvalidArgument);
  EXPECT_THROW(tree.set_capacity(kMaxTargets, 1), InvalidArgument);
}

}  // namespace
}  // namespace kvroute::testing
