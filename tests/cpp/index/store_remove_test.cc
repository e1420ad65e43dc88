#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "hashes.h"
#include "kvroute/base/error.h"

namespace kvroute::testing {
namespace {

const Hashes kLabels = hashes(10, 1);
const Hashes kNames = hashes(10, 2);

TEST(Store, MakesBlocksReachableForItsSlotOnly) {
  PrefixTree tree;
  const StoreResult result = tree.store(3, std::nullopt, kNames, kLabels);
  EXPECT_EQ(result.applied, 10U);
  EXPECT_EQ(held(tree, 3, kLabels), 10U);
  EXPECT_EQ(held(tree, 2, kLabels), 0U);
  EXPECT_EQ(held(tree, 3, part(kLabels, 0, 4)), 4U);
  EXPECT_EQ(held(tree, 3, joined(kLabels, hashes(3, 9))), 10U);
  EXPECT_EQ(held(tree, 3, part(kLabels, 1, 10)), 0U) << "a match begins at the root";
}

TEST(Store, GoesOnBelowItsParent) {
  PrefixTree tree;
  tree.store(0, std::nullopt, part(kNames, 0, 4), part(kLabels, 0, 4));
  tree.store(0, kNames[3], part(kNames, 4, 10), part(kLabels, 4, 10));
  EXPECT_EQ(held(tree, 0, kLabels), 10U);
  EXPECT_EQ(tree.stats().nodes, 1U) << "a leaf of one holder grows in place";
}

TEST(Store, BelowAnUnknownParentIsCountedAndNotAttached) {
  PrefixTree tree;
  tree.store(1, std::nullopt, part(kNames, 0, 4), part(kLabels, 0, 4));
  const StoreResult result = tree.store(0, kNames[3], part(kNames, 4, 10), part(kLabels, 4, 10));
  EXPECT_TRUE(result.unknown_parent) << "that slot 1 announced it does not help slot 0";
  EXPECT_EQ(result.applied, 0U);
  EXPECT_EQ(tree.stats().unknown_parents, 6U);
  EXPECT_EQ(held(tree, 0, part(kLabels, 4, 10)), 0U);
  EXPECT_EQ(tree.held_blocks(0), 0U);
}

TEST(Store, RefusesSpansOfDifferentLengthAndSlotsOutOfRange) {
  PrefixTree tree;
  EXPECT_THROW(tree.store(0, std::nullopt, part(kNames, 0, 3), kLabels), InvalidArgument);
  EXPECT_THROW(tree.store(kMaxTargets, std::nullopt, kNames, kLabels), InvalidArgument);
  EXPECT_THROW(tree.clear(kMaxTargets), InvalidArgument);
}

TEST(Store, WorksForTheHighestSlot) {
  PrefixTree tree;
  tree.store(kMaxTargets - 1, std::nullopt, kNames, kLabels);
  tree.store(5, std::nullopt, part(kNames, 0, 3), part(kLabels, 0, 3));
  EXPECT_EQ(held(tree, kMaxTargets - 1, kLabels), 10U);
  EXPECT_EQ(held(tree, 5, kLabels), 3U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(Store, OfSequencesThatPartSplitsTheirCommonHead) {
  PrefixTree tree;
  const Hashes other = joined(part(kLabels, 0, 6), hashes(4, 7));
  tree.store(0, std::nullopt, kNames, kLabels);
  tree.store(1, std::nullopt, hashes(10, 8), other);
  EXPECT_EQ(held(tree, 0, kLabels), 10U);
  EXPECT_EQ(held(tree, 0, other), 6U);
  EXPECT_EQ(held(tree, 1, kLabels), 6U);
  EXPECT_EQ(held(tree, 1, other), 10U);
  EXPECT_EQ(tree.stats().blocks, 14U);
  EXPECT_EQ(tree.stats().nodes, 3U);
}

TEST(Store, OfACopyNeedsAsManyRemovals) {
  PrefixTree tree;
  tree.store(0, std::nullopt, kNames, kLabels);
  EXPECT_EQ(tree.store(0, std::nullopt, kNames, kLabels).duplicates, 10U);
  EXPECT_EQ(tree.remove(0, kNames).kept, 10U);
  EXPECT_EQ(held(tree, 0, kLabels), 10U);
  EXPECT_EQ(tree.remove(0, kNames).removed, 10U);
  EXPECT_EQ(held(tree, 0, kLabels), 0U);
}

TEST(Store, OfACopyCountsOnceWithoutCounting) {
  PrefixTree tree(IndexOptions{.memory_limit = std::nullopt, .count_copies = false});
  tree.store(0, std::nullopt, kNames, kLabels);
  tree.store(0, std::nullopt, kNames, kLabels);
  EXPECT_EQ(tree.remove(0, kNames).removed, 10U);
}

TEST(Store, OfAKnownHashForOtherContentMovesIt) {
  PrefixTree tree;
  tree.store(0, std::nullopt, part(kNames, 0, 1), part(kLabels, 0, 1));
  const Hashes other = hashes(1, 5);
  const StoreResult result = tree.store(0, std::nullopt, part(kNames, 0, 1), other);
  EXPECT_EQ(result.renamed, 1U);
  EXPECT_EQ(held(tree, 0, part(kLabels, 0, 1)), 0U);
  EXPECT_EQ(held(tree, 0, other), 1U);
  EXPECT_EQ(tree.stats().blocks, 1U);
}

TEST(Store, OfTwoHashesForOneBlockHoldsItUntilBothAreRemoved) {
  PrefixTree tree;
  const Hashes second = hashes(10, 3);
  tree.store(0, std::nullopt, kNames, kLabels);
  EXPECT_EQ(tree.store(0, std::nullopt, second, kLabels).aliased, 10U);
  EXPECT_EQ(tree.remove(0, kNames).kept, 10U);
  EXPECT_EQ(held(tree, 0, kLabels), 10U);
  EXPECT_EQ(tree.remove(0, second).removed, 10U);
  EXPECT_EQ(tree.stats().blocks, 0U);
}

TEST(Store, RemembersTheNamespaceForChildren) {
  PrefixTree tree;
  tree.store(0, std::nullopt, kNames, kLabels, 77);
  EXPECT_EQ(tree.namespace_seed_of(0, kNames[4]), 77U);
  EXPECT_EQ(tree.namespace_seed_of(1, kNames[4]), std::nullopt);
  EXPECT_EQ(tree.namespace_seed_of(0, 12345), std::nullopt);
}

TEST(Store, DropsWhatWaitedForAParentOfAnotherNamespace) {
  PrefixTree tree;
  tree.store(0, kNames[1], part(kNames, 2, 4), part(kLabels, 2, 4), 77);
  tree.store(0, kNames[1], part(kNames, 4, 5), part(kLabels, 4, 5), 1);
  EXPECT_EQ(tree.store(0, std::nullopt, part(kNames, 0, 2), part(kLabels, 0, 2), 77).adopted, 2U);
  EXPECT_EQ(held(tree, 0, kLabels), 4U);
  const IndexStats stats = tree.stats();
  EXPECT_EQ(stats.waited_in_vain, 1U);
  EXPECT_EQ(stats.waiting, 0U);
  EXPECT_EQ(stats.blocks, 4U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(Remove, InTheMiddleHidesWhatIsBelowUntilTheBlockReturns) {
  PrefixTree tree;
  tree.store(0, std::nullopt, kNames, kLabels);
  tree.store(1, std::nullopt, kNames, kLabels);
  tree.remove(0, part(kNames, 4, 5));
  EXPECT_EQ(held(tree, 0, kLabels), 4U);
  EXPECT_EQ(held(tree, 1, kLabels), 10U);
  EXPECT_EQ(tree.held_blocks(0), 9U);
  tree.store(0, kNames[3], part(kNames, 4, 5), part(kLabels, 4, 5));
  EXPECT_EQ(held(tree, 0, kLabels), 10U);
}

TEST(Remove, OfTheHeadAndItsReturnBringTheTailBack) {
  PrefixTree tree;
  tree.store(0, std::nullopt, kNames, kLabels);
  tree.remove(0, part(kNames, 0, 2));
  EXPECT_EQ(held(tree, 0, kLabels), 0U);
  tree.store(0, std::nullopt, part(kNames, 0, 2), part(kLabels, 0, 2));
  EXPECT_EQ(held(tree, 0, kLabels), 10U);
}

TEST(Remove, OfUnknownHashesIsCounted) {
  PrefixTree tree;
  EXPECT_EQ(tree.remove(0, kNames).unknown, 10U);
  EXPECT_EQ(tree.stats().unknown_removed, 10U);
}

TEST(Remove, OfEverythingLeavesNothing) {
  for (const bool head_first : {false, true}) {
    PrefixTree tree;
    tree.store(0, std::nullopt, kNames, kLabels);
    for (std::size_t i = 0; i < 10; ++i) {
      const std::size_t at = head_first ? i : 9 - i;
      tree.remove(0, part(kNames, at, at + 1));
      ASSERT_EQ(tree.audit(), std::nullopt);
      if (!head_first) {
        ASSERT_EQ(tree.stats().blocks, at) << "dead ends are freed at once";
      }
    }
    EXPECT_EQ(tree.stats().blocks, 0U);
    EXPECT_EQ(tree.stats().nodes, 0U);
  }
}

TEST(Clear, TakesAwayOneSlotOnly) {
  PrefixTree tree;
  tree.store(0, std::nullopt, kNames, kLabels);
  tree.store(1, std::nullopt, kNames, kLabels);
  tree.predict(0, hashes(5, 6), 0);
  tree.clear(0);
  EXPECT_EQ(held(tree, 0, kLabels), 0U);
  EXPECT_EQ(held(tree, 1, kLabels), 10U);
  EXPECT_EQ(tree.stats().held_predicted, 0U);
  EXPECT_TRUE(tree.store(0, kNames[3], kNames, kLabels).unknown_parent);
}

TEST(Clear, OfTheEndOfALongChainLeavesNothing) {
  PrefixTree tree;
  const Hashes names = hashes(3'000, 2);
  tree.store(0, std::nullopt, names, hashes(3'000, 1));
  tree.remove(0, part(names, 0, 2'000));
  tree.clear(0);
  EXPECT_EQ(tree.stats().blocks, 0U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(Clear, OfATierLeavesTheOthers) {
  PrefixTree tree;
  const auto chain = [&](std::size_t begin, std::size_t end, Tier tier) {
    const auto parent = begin > 0 ? std::optional(kNames[begin - 1]) : std::nullopt;
    return tree.store(0, parent, part(kNames, begin, end), part(kLabels, begin, end), 0, tier);
  };
  chain(0, 6, Tier::device);
  chain(0, 4, Tier::host);
  tree.predict(0, kLabels, 0);
  tree.store(0, 777, hashes(2, 8), hashes(2, 9));
  tree.store(0, 777, hashes(3, 8), hashes(3, 9), 0, Tier::disk);
  tree.clear(0, Tier::device);
  Overlaps overlaps;
  tree.match(kLabels, overlaps);
  EXPECT_EQ(overlaps.depth(0, Tier::device), 0U);
  EXPECT_EQ(overlaps.depth(0, Tier::host), 4U);
  EXPECT_EQ(tree.stats().held_predicted, 0U);
  EXPECT_EQ(tree.stats().waiting, 3U) << "what waits to be held on the disk";
  EXPECT_TRUE(chain(6, 6, Tier::device).unknown_parent) << "its name was the device's alone";
  EXPECT_EQ(chain(4, 6, Tier::device).applied, 2U) << "its parent is still known";
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(ReleaseSlot, LetsTheNumberBeUsedAgain) {
  PrefixTree tree;
  tree.store(0, std::nullopt, kNames, kLabels);
  tree.release_slot(0);
  EXPECT_EQ(held(tree, 0, kLabels), 0U);
  tree.store(0, std::nullopt, part(kNames, 0, 2), part(kLabels, 0, 2));
  EXPECT_EQ(held(tree, 0, kLabels), 2U);
}

}  // namespace
}  // namespace kvroute::testing
