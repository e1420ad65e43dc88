#include <gtest/gtest.h>

#include <optional>

#include "hashes.h"
#include "kvroute/base/error.h"

namespace kvroute::testing {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST(MemoryLimit, HoldsAfterEveryInsertion) {
  PrefixTree tree({.memory_limit = 2 * kMiB});
  for (std::uint64_t i = 0; i < 2'000; ++i) {
    tree.store(static_cast<Slot>(i % 7), std::nullopt, hashes(100, 2 * i + 2),
               hashes(100, 2 * i + 3));
    ASSERT_LE(tree.stats().bytes.total(), 2 * kMiB);
  }
  const IndexStats stats = tree.stats();
  EXPECT_EQ(tree.audit(), std::nullopt);
  EXPECT_GT(stats.forgotten_exact, 0U);
  EXPECT_EQ(stats.stored, stats.held_exact + stats.forgotten_exact);
  EXPECT_GT(stats.bytes.total(), kMiB) << "it makes use of what it is given";
}

// What is kept of a slot counts too, though it stores nothing.
TEST(MemoryLimit, HoldsAfterEventsWithoutBlocksOfNewSlots) {
  PrefixTree tree({.memory_limit = kMiB});
  Hashes chain{1};
  while (tree.stats().forgotten_exact == 0) {  // one block more at a time, until it is full
    chain.push_back(chain.back() + 1);
    tree.store(0, std::nullopt, chain, chain);
  }
  for (Slot slot = 1; slot < 200; ++slot) {
    tree.store(slot, std::nullopt, {}, {});
    ASSERT_LE(tree.stats().bytes.total(), kMiB) << slot;
    tree.store(slot, 7, {}, {}, 0, Tier::host);
    ASSERT_LE(tree.stats().bytes.total(), kMiB) << slot;
  }
}

TEST(MemoryLimit, ForgetsPredictedBlocksAndColdOnesFirst) {
  PrefixTree tree({.memory_limit = 2 * kMiB});
  const Hashes hot = hashes(50, 1);
  tree.store(0, std::nullopt, hashes(50, 2), hot);
  for (std::uint64_t i = 0; i < 3'000; ++i) {
    tree.predict(1, hashes(60, i + 10), 0);
    EXPECT_EQ(held(tree, 0, hot), 50U) << i;
  }
  EXPECT_GT(tree.stats().forgotten_predicted, 0U);
  EXPECT_EQ(tree.stats().forgotten_exact, 0U);
}

TEST(MemoryLimit, KeepsWhatIsOftenMatched) {
  PrefixTree tree({.memory_limit = 2 * kMiB});
  const Hashes hot = hashes(50, 1);
  tree.store(0, std::nullopt, hashes(50, 2), hot);
  for (std::uint64_t i = 0; i < 3'000; ++i) {
    tree.store(1, std::nullopt, hashes(60, 2 * i + 10), hashes(60, 2 * i + 11));
    ASSERT_EQ(held(tree, 0, hot), 50U) << i;
  }
  EXPECT_GT(tree.stats().forgotten_exact, 0U);
}

TEST(MemoryLimit, HoldsWhenItIsLoweredAfterARequestUsedAllThereWas) {
  PrefixTree tree({.memory_limit = kMiB});
  const PinResult pinned = tree.pin(0, hashes(90'000, 1));
  tree.store(1, std::nullopt, hashes(60, 2), hashes(60, 3));
  ASSERT_GT(tree.stats().bytes.total(), kMiB);
  tree.set_memory_limit(8 * kMiB);
  for (std::uint64_t i = 0; i < 1'000; ++i) {
    tree.store(1, std::nullopt, hashes(60, 2 * i + 10), hashes(60, 2 * i + 11));
  }
  tree.set_memory_limit(2 * kMiB);
  EXPECT_LE(tree.stats().bytes.total(), 2 * kMiB);
  EXPECT_EQ(tree.unpin(0, pinned.pin), 90'000U);
}

TEST(MemoryLimit, LeavesPinnedBlocksInPlace) {
  PrefixTree tree({.memory_limit = kMiB});
  const Hashes labels = hashes(500, 1);
  tree.store(0, std::nullopt, hashes(500, 2), labels);
  const PinResult pinned = tree.pin(0, labels);
  for (std::uint64_t i = 0; i < 1'000; ++i) {
    tree.store(1, std::nullopt, hashes(60, 2 * i + 10), hashes(60, 2 * i + 11));
  }
  EXPECT_EQ(held(tree, 0, labels), 500U);
  EXPECT_EQ(tree.unpin(0, pinned.pin), 500U);
}

TEST(MemoryLimit, HoldsAgainOnceTheRequestThatExceededItHasEnded) {
  PrefixTree tree({.memory_limit = kMiB});
  const Hashes labels = hashes(90'000, 1);
  const PinResult pinned = tree.pin(0, labels);
  tree.store(0, std::nullopt, hashes(90'000, 2), labels);
  ASSERT_EQ(held(tree, 0, labels), 90'000U) << "what is pinned is not forgotten";
  ASSERT_GT(tree.stats().bytes.total(), kMiB);
  tree.unpin(0, pinned.pin);
  EXPECT_LE(tree.stats().bytes.total(), kMiB);
  EXPECT_GT(held(tree, 0, labels), 0U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

// While all that could be forgotten is in use, only what is new is. Once something has expired
// there is room again, and it goes by age.
TEST(MemoryLimit, ForgetsColdBlocksFirstAgainOnceSomethingHasExpired) {
  PrefixTree tree;
  const Hashes running = hashes(60'000, 1);
  const PinResult pinned = tree.pin(0, running);
  for (Slot slot = 1; slot < 3'000; ++slot) tree.predict(slot, running, 0);
  const std::size_t limit = tree.stats().bytes.total() - 1'000;
  tree.set_memory_limit(limit);  // all is in use
  while (tree.expire(Nanoseconds{1} << 60) > 0) continue;
  ASSERT_LT(tree.stats().bytes.total() + 40'000, limit);
  for (std::uint64_t i = 0; i < 1'000; ++i) {
    tree.store(1, std::nullopt, hashes(20, 2 * i + 10), hashes(20, 2 * i + 11));
    ASSERT_EQ(held(tree, 1, hashes(20, 2 * i + 11)), 20U) << i;
  }
  EXPECT_GT(tree.stats().forgotten_exact, 0U);
  EXPECT_EQ(tree.unpin(0, pinned.pin), 60'000U);
}

TEST(MemoryLimit, RefusesOneThatIsTooSmall) {
  EXPECT_THROW(PrefixTree({.memory_limit = 1'000}), InvalidArgument);
}

}  // namespace
}  // namespace kvroute::testing
