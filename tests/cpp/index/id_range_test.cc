// What a tree does where the ids of blocks run short, with a few of them in place of 4 billion.

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "hashes.h"
#include "index/tree_core.h"
#include "kvroute/base/error.h"

namespace kvroute::detail {
namespace {

using testing::Hashes;
using testing::hashes;
using testing::part;

constexpr std::size_t kGranules = 1024;
constexpr std::size_t kKept = kGranules - kGranules / 16;
constexpr LaneId kLane{0, Tier::device};

StoreResult store(TreeCore& tree, const Hashes& chain) {
  return tree.store(kLane, std::nullopt, chain, chain, 0);
}

std::uint32_t held(const TreeCore& tree, const Hashes& chain) {
  Overlaps overlaps;
  tree.match(chain, overlaps, Tier::device);
  return overlaps.held[kLane.slot];
}

TEST(IdRange, TheColdestBlocksMakeRoomForNewOnes) {
  TreeCore tree({}, kGranules);
  const Hashes hot = hashes(40, 1);
  store(tree, hot);
  for (std::uint64_t i = 0; i < 4 * kGranules; ++i) {
    EXPECT_EQ(store(tree, hashes(1, i + 10)).applied, 1U);
    ASSERT_EQ(held(tree, hot), 40U) << i;
    ASSERT_LE(tree.stats().blocks, kKept + 40);
  }
  EXPECT_GT(tree.stats().blocks, kKept / 2) << "it makes use of what there is";
  EXPECT_EQ(tree.stats().forgotten_exact, 4 * kGranules + 40 - tree.stats().blocks);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(IdRange, WhatWaitsIsNotDroppedForIds) {
  TreeCore tree({}, kGranules);
  const Hashes chain = hashes(4);
  EXPECT_TRUE(tree.store(kLane, 7, chain, chain, 0).unknown_parent);
  for (std::uint64_t i = 0; i < 2 * kGranules; ++i) store(tree, hashes(1, i + 10));
  EXPECT_EQ(tree.stats().waiting, 4U);
}

TEST(IdRange, AnEventLongerThanTheRangeIsRefusedAndChangesNothing) {
  TreeCore tree({}, kGranules);
  const Hashes chain = hashes(100);
  store(tree, chain);
  const Hashes endless = hashes(kGranules * RunStore::kGranule, 2);
  EXPECT_THROW(store(tree, endless), InvalidArgument);
  EXPECT_THROW(tree.predict(0, endless, 0), InvalidArgument);
  EXPECT_THROW(static_cast<void>(tree.pin(0, endless)), InvalidArgument);
  EXPECT_EQ(held(tree, chain), 100U);
  EXPECT_EQ(tree.stats().blocks, 100U);
  EXPECT_EQ(tree.stats().pins, 0U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(IdRange, AWaitingChainThatItHasNoRoomForIsDropped) {
  TreeCore tree({}, kGranules);
  const Hashes parent = hashes(1);
  const Hashes endless = hashes(kGranules * RunStore::kGranule, 2);
  tree.store(kLane, parent[0], endless, endless, 0);
  EXPECT_EQ(store(tree, parent).adopted, 0U);
  EXPECT_EQ(tree.stats().waiting, 0U);
  EXPECT_EQ(tree.stats().waited_in_vain, endless.size());
  EXPECT_EQ(tree.stats().blocks, 1U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(IdRange, WhereAllIsPinnedFurtherRequestsAreRefusedUntilOneEnds) {
  TreeCore tree({}, kGranules);
  std::vector<Pin> pins;
  std::uint64_t family = 1;
  EXPECT_THROW(
      {
        for (; family <= 2 * kGranules; ++family) {
          pins.push_back(tree.pin(0, hashes(1, family)).pin);
        }
      },
      InvalidArgument);
  EXPECT_EQ(tree.stats().pins, pins.size());
  EXPECT_EQ(tree.unpin(0, pins.back()), 1U);
  pins.back() = tree.pin(0, hashes(1, family)).pin;
  EXPECT_EQ(tree.audit(), std::nullopt);
  for (const Pin& pin : pins) EXPECT_EQ(tree.unpin(0, pin), 1U);
  EXPECT_EQ(tree.stats().blocks, 0U);
}

TEST(IdRange, ASnapshotBeyondItIsRefused) {
  TreeCore large({});
  for (std::uint64_t i = 0; i < 2 * kGranules; ++i) store(large, hashes(1, i + 10));
  TreeCore tree({}, kGranules);
  const Hashes chain = hashes(3);
  store(tree, chain);
  EXPECT_THROW(tree.restore(large.snapshot(0), 0), InvalidArgument);
  EXPECT_EQ(held(tree, chain), 3U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

}  // namespace
}  // namespace kvroute::detail
