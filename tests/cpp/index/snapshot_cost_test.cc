// What few bytes of a snapshot can cost. Sizes are such that anything of more than about linear
// time does not end within the test's time.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "forged_snapshot.h"
#include "kvroute/base/error.h"
#include "kvroute/index/prefix_tree.h"

namespace kvroute::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

using Ranges = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

/// One node of so many blocks that all slots hold in all tiers.
ForgedSnapshot dense(std::uint32_t blocks, const Ranges& ranges) {
  ForgedSnapshot snapshot;
  snapshot.slots = kMaxTargets;
  auto& run = snapshot.runs.emplace_back();
  run.labels = hashes(blocks, 1);
  run.names = hashes(blocks, 2);
  auto& node = run.nodes.emplace_back();
  node.length = blocks;
  for (auto& holders : node.holders) {
    for (std::uint32_t slot = 0; slot < kMaxTargets; ++slot) holders.push_back({slot, ranges});
  }
  return snapshot;
}

/// One slot's exact blocks in one node.
ForgedSnapshot of_one_slot(std::uint32_t blocks) {
  ForgedSnapshot snapshot = dense(blocks, {});
  for (auto& holders : snapshot.runs[0].nodes[0].holders) holders.clear();
  snapshot.runs[0].nodes[0].holders[0] = {{0}};
  return snapshot;
}

void expect_too_large(const ForgedSnapshot& snapshot) {
  PrefixTree tree;
  EXPECT_THAT([&] { tree.restore(snapshot.bytes(), 0); },
              ThrowsMessage<InvalidArgument>(HasSubstr("at most 64 bytes of memory a byte")));
  EXPECT_EQ(tree.stats().blocks, 0U);
}

TEST(SnapshotCost, OfLongRowsOfTwoNamesIsBounded) {
  constexpr std::uint32_t kBlocks = 4096;
  ForgedSnapshot snapshot = dense(kBlocks, {});
  for (std::uint32_t lane = 0; lane < kMaxTargets * kTiers; ++lane) {
    const std::uint64_t name = (std::uint64_t{1} << 60) + 2 * lane;
    snapshot.runs[0].rows.push_back({lane, {{0, name}, {kBlocks - 1, name + 1}}});
  }
  expect_too_large(snapshot);
}

TEST(SnapshotCost, OfLongBitmapsWithOneBitIsBounded) {
  constexpr std::uint32_t kBlocks = 65'536;
  expect_too_large(dense(kBlocks, {{kBlocks - 1, 1}}));
}

// Sixty-four words for two slots, in each tier of each node: as much as any tree that is not made
// for it takes for its bytes.
TEST(SnapshotCost, OfBlocksThatFarSlotsHoldInEachTierIsWithinBounds) {
  PrefixTree tree;
  for (std::uint64_t family = 1; family <= 2'000; ++family) {
    for (const Slot slot : {0U, static_cast<Slot>(kMaxTargets - 1)}) {
      for (std::size_t tier = 0; tier < kTiers; ++tier) {
        tree.store(slot, std::nullopt, hashes(1, family), hashes(1, family), 0,
                   static_cast<Tier>(tier));
      }
    }
  }
  const std::string bytes = tree.snapshot(0);
  EXPECT_GT(tree.stats().bytes.total(), std::size_t{4} << 20);
  PrefixTree again;
  again.restore(bytes, 0);
  EXPECT_EQ(again.stats().blocks, 2'000U);
  EXPECT_EQ(again.audit(), std::nullopt);
}

TEST(SnapshotCost, OfManyHoldersOfManyBlocksGrowsWithTheirSum) {
  ForgedSnapshot snapshot = dense(200'000, {});
  snapshot.runs[0].rows = {{0, {{7, 1}}}};
  PrefixTree tree;
  tree.restore(snapshot.bytes(), 0);
  EXPECT_EQ(tree.held_blocks(0), 200'000U);
}

TEST(SnapshotCost, OfBlocksWithoutASharedNameGrowsWithTheRanges) {
  constexpr std::uint32_t kBlocks = 100'000;
  ForgedSnapshot snapshot = of_one_slot(kBlocks);
  snapshot.runs[0].names[1] = 0;
  snapshot.runs[0].nodes[0].holders[0] = {{0, {{0, 1}}}};
  for (std::uint32_t slot = 1; slot < kMaxTargets; ++slot) {
    snapshot.runs[0].nodes[0].holders[0].push_back({slot, {{0, 1}, {2, kBlocks - 3}}});
  }
  PrefixTree tree;
  tree.restore(snapshot.bytes(), 0);
  EXPECT_EQ(tree.held_blocks(1), kBlocks - 2);
}

TEST(SnapshotCost, OfManyShortWindowsOfOneRunGrowsWithTheirNumber) {
  constexpr std::uint32_t kWindows = 300'000;
  ForgedSnapshot snapshot = of_one_slot(2 * kWindows);
  ForgedSnapshot::Node node{.length = 2};
  node.holders[0] = {{0, {{0, 1}}}, {1, {{1, 1}}}};
  snapshot.runs[0].nodes.assign(kWindows, node);
  PrefixTree tree;
  tree.restore(snapshot.bytes(), 0);
  EXPECT_EQ(tree.held_blocks(1), kWindows);
}

TEST(SnapshotCost, OfManyPredictionsOfOneNodeGrowsWithTheirNumber) {
  constexpr std::uint32_t kBlocks = 600'000;
  ForgedSnapshot snapshot = of_one_slot(kBlocks);
  for (std::uint32_t at = 0; at < kBlocks; ++at) {
    snapshot.runs[0].nodes[0].predictions.push_back({0, at, 1, 1, at});
  }
  PrefixTree tree;
  tree.set_capacity(0, kBlocks);
  tree.restore(snapshot.bytes(), 0);
  EXPECT_EQ(tree.stats().held_predicted, kBlocks);
  // As many of many blocks each, which many slots hold.
  snapshot = dense(100'000, {});
  for (std::uint32_t slot = 0; slot < kMaxTargets; ++slot) {
    snapshot.runs[0].nodes[0].predictions.push_back({slot, 0, 100'000, 0, 1});
  }
  tree.restore(snapshot.bytes(), 0);
  EXPECT_EQ(tree.stats().held_predicted, std::size_t{kMaxTargets} * 100'000);
}

}  // namespace
}  // namespace kvroute::testing
