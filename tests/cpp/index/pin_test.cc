#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "hashes.h"
#include "kvroute/base/error.h"

namespace kvroute::testing {
namespace {

const Hashes kLabels = hashes(10, 1);
const Hashes kNames = hashes(10, 2);

TEST(Pin, MakesBlocksActiveButNotHeld) {
  PrefixTree tree;
  const PinResult pinned = tree.pin(2, kLabels);
  EXPECT_EQ(pinned.newly_active, 10U);
  EXPECT_EQ(pinned.pin.depth(), 10U);
  EXPECT_EQ(active(tree, 2, kLabels), 10U);
  EXPECT_EQ(active(tree, 2, part(kLabels, 0, 7)), 7U);
  EXPECT_EQ(held(tree, 2, kLabels), 0U);
  EXPECT_EQ(tree.unpin(2, pinned.pin), 10U);
  EXPECT_EQ(active(tree, 2, kLabels), 0U);
  EXPECT_EQ(tree.stats().blocks, 0U);
}

TEST(Pin, CountsSharedBlocksOnce) {
  PrefixTree tree;
  const Hashes other = joined(part(kLabels, 0, 6), hashes(4, 7));
  const PinResult first = tree.pin(0, kLabels);
  const PinResult second = tree.pin(0, other);
  EXPECT_EQ(second.newly_active, 4U);
  EXPECT_EQ(tree.pin(1, other).newly_active, 10U) << "another slot counts for itself";
  EXPECT_EQ(tree.unpin(0, first.pin), 4U);
  EXPECT_EQ(active(tree, 0, kLabels), 6U);
  EXPECT_EQ(tree.unpin(0, second.pin), 10U);
}

TEST(Pin, SurvivesSplitsAndTheGrowthOfItsNode) {
  PrefixTree tree;
  const PinResult pinned = tree.pin(0, part(kLabels, 0, 8));
  tree.store(0, std::nullopt, kNames, kLabels);
  for (std::size_t at = 1; at < 8; ++at) {
    tree.store(1, std::nullopt, hashes(at + 1, 20 + at),
               joined(part(kLabels, 0, at), hashes(1, 30 + at)));
  }
  EXPECT_EQ(active(tree, 0, kLabels), 8U);
  EXPECT_EQ(tree.unpin(0, pinned.pin), 8U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(Pin, StaysWhenItsSlotIsCleared) {
  PrefixTree tree;
  tree.store(0, std::nullopt, kNames, kLabels);
  const PinResult pinned = tree.pin(0, kLabels);
  tree.clear(0);
  EXPECT_EQ(held(tree, 0, kLabels), 0U);
  EXPECT_EQ(active(tree, 0, kLabels), 10U);
  EXPECT_EQ(tree.unpin(0, pinned.pin), 10U);
}

TEST(Pin, OfNothingIsEmpty) {
  PrefixTree tree;
  const PinResult pinned = tree.pin(0, {});
  EXPECT_TRUE(pinned.pin.empty());
  EXPECT_EQ(tree.unpin(0, pinned.pin), 0U);
}

TEST(Unpin, RefusesWhatIsNotPinned) {
  PrefixTree tree;
  const PinResult pinned = tree.pin(0, kLabels);
  EXPECT_THROW(tree.unpin(1, pinned.pin), InvalidArgument);
  tree.unpin(0, pinned.pin);
  EXPECT_THROW(tree.unpin(0, pinned.pin), InvalidArgument);
}

// A request that goes on below the place is none of that place.
TEST(Unpin, RefusesASecondTimeWhileALongerRequestRuns) {
  for (const bool split : {false, true}) {
    PrefixTree tree;
    const PinResult longer = tree.pin(0, kLabels);
    const PinResult shorter = tree.pin(0, part(kLabels, 0, 6));
    if (split) tree.store(1, std::nullopt, part(kNames, 0, 6), part(kLabels, 0, 6));
    if (split) tree.store(1, std::nullopt, hashes(7, 8), joined(part(kLabels, 0, 6), {7}));
    EXPECT_EQ(tree.unpin(0, shorter.pin), 0U);
    EXPECT_THROW(tree.unpin(0, shorter.pin), InvalidArgument);
    EXPECT_EQ(tree.stats().pins, 1U);
    EXPECT_EQ(active(tree, 0, kLabels), 10U);
    EXPECT_EQ(tree.audit(), std::nullopt);
    EXPECT_EQ(tree.unpin(0, longer.pin), 10U);
    EXPECT_EQ(tree.stats().pins, 0U);
    EXPECT_EQ(tree.audit(), std::nullopt);
  }
}

TEST(Unpin, EndsEachOfManyRequestsAtOnePlaceOnce) {
  PrefixTree tree;
  std::vector<Pin> pins;
  for (const std::size_t length : {4U, 10U, 4U, 7U, 10U, 4U}) {
    pins.push_back(tree.pin(0, part(kLabels, 0, length)).pin);
    tree.store(1, std::nullopt, hashes(length + 1, 20 + length),
               joined(part(kLabels, 0, length), hashes(1, 30 + length)));
    EXPECT_EQ(tree.audit(), std::nullopt);
  }
  tree.clear(1);  // nodes become one again
  EXPECT_EQ(tree.audit(), std::nullopt);
  for (std::size_t left = pins.size(); left > 0; --left) {
    EXPECT_EQ(tree.stats().pins, left);
    tree.unpin(0, pins[left - 1]);
    EXPECT_EQ(tree.audit(), std::nullopt);
  }
  for (const Pin& pin : pins) EXPECT_THROW(tree.unpin(0, pin), InvalidArgument);
  EXPECT_EQ(tree.stats().blocks, 0U);
}

}  // namespace
}  // namespace kvroute::testing
