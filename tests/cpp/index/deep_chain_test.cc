#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "hashes.h"

namespace kvroute::testing {
namespace {

TEST(DeepChain, OfAMillionBlocksIsPinnedAndUnpinnedWhileItIsCutUp) {
  constexpr std::size_t kBlocks = 1'000'000;
  const Hashes labels = hashes(kBlocks, 1);
  PrefixTree tree;
  const PinResult pinned = tree.pin(0, labels);
  std::vector<PinResult> branches;
  for (std::size_t at = 1'000; at < kBlocks; at += 100'000) {
    branches.push_back(tree.pin(1, joined(part(labels, 0, at), hashes(1, 100 + at))));
  }
  EXPECT_EQ(active(tree, 0, labels), kBlocks);
  EXPECT_EQ(active(tree, 1, labels), 901'000U);
  EXPECT_EQ(tree.unpin(0, pinned.pin), kBlocks);
  for (const PinResult& branch : branches) tree.unpin(1, branch.pin);
  EXPECT_EQ(tree.stats().blocks, 0U);
}

/// The slots store each block in turn, in an event of its own, the leader changing.
void store_in_turn(PrefixTree& tree, const Hashes& labels, Slot slots) {
  for (std::size_t at = 0; at < labels.size(); ++at) {
    const std::span<const std::uint64_t> block(&labels[at], 1);
    const std::optional parent = at == 0 ? std::nullopt : std::optional(labels[at - 1]);
    for (Slot turn = 0; turn < slots; ++turn) {
      tree.store((static_cast<Slot>(at) + turn) % slots, parent, block, block);
    }
  }
}

TEST(DeepChain, OfAMillionBlocksInOneEventEachIsOneNodeForFewSlots) {
  const Hashes labels = hashes(1'000'000, 1);
  PrefixTree tree;
  store_in_turn(tree, labels, 2);
  EXPECT_EQ(tree.stats().nodes, 1U);
  EXPECT_EQ(held(tree, 1, labels), labels.size());
  tree.clear(0);
  tree.clear(1);
  EXPECT_EQ(tree.stats().nodes, 0U);
}

TEST(DeepChain, OfAsManyNodesAsBlocksIsMatchedAndCleared) {
  const Hashes labels = hashes(200'000, 1);
  PrefixTree tree;
  store_in_turn(tree, labels, 6);
  EXPECT_GT(tree.stats().nodes, 100'000U);
  EXPECT_EQ(held(tree, 5, labels), labels.size());
  for (Slot slot = 0; slot < 6; ++slot) tree.clear(slot);
  EXPECT_EQ(tree.stats().nodes, 0U);
}

TEST(DeepChain, WithABranchAtEachBlockIsFreedByOneEvent) {
  constexpr std::size_t kBlocks = 200'000;
  const Hashes chain = hashes(kBlocks, 1);
  const Hashes branches = hashes(kBlocks, 2);
  PrefixTree tree;
  tree.store(0, std::nullopt, chain, chain);
  for (std::size_t at = 0; at < kBlocks; ++at) {
    tree.store(0, chain[at], std::span(branches).subspan(at, 1),
               std::span(branches).subspan(at, 1));
  }
  tree.store(1, std::nullopt, hashes(kBlocks, 3), chain);  // names of its own for all of it
  EXPECT_EQ(held(tree, 1, chain), kBlocks);
  tree.remove(1, hashes(kBlocks, 3));
  tree.remove(0, chain);
  tree.remove(0, branches);
  EXPECT_EQ(tree.stats().blocks, 0U);
}

TEST(DeepChain, IsDestroyedWhole) {
  const Hashes labels = hashes(300'000, 1);
  PrefixTree tree;
  for (std::size_t at = 0; at < labels.size(); ++at) {
    const std::span<const std::uint64_t> block(&labels[at], 1);
    for (Slot slot = 0; slot < 2; ++slot) {
      tree.store(slot, at == 0 ? std::nullopt : std::optional(labels[at - 1]), block, block);
    }
  }
}

}  // namespace
}  // namespace kvroute::testing
