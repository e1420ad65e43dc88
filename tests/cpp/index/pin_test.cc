#include <gtest/gtest.h>

#include <optional>

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

}  // namespace
}  // namespace kvroute::testing
