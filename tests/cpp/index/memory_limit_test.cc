#include <gtest/gtest.h>

#include <optional>

#include "checked_tree.h"
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

TEST(MemoryLimit, NeverLeavesMoreThanWasHeldUnderAnyTraffic) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Choices choices(seed);
    GeneratorOptions options;
    options.slots = 40;
    options.max_length = 400;
    options.capacity = 20'000;
    options.own_names = seed % 2 == 0;
    options.chaos = seed % 3 == 0;
    EventGenerator events(choices, options);
    IndexOptions index;
    index.memory_limit = kMiB;
    PrefixTree tree(index);
    ReferenceModel model({});
    Overlaps overlaps;
    for (int step = 0; step < 4'000; ++step) {
      Op op = events.next();
      if (op.namespace_seed == EventGenerator::kInherit) op.namespace_seed = 0;
      if (op.kind == OpKind::kStore) {
        tree.store(op.slot, op.parent, op.names, op.labels);
        model.store(op.slot, op.parent, op.names, op.labels, 0);
        ASSERT_LE(tree.stats().bytes.total(), kMiB);
      } else if (op.kind == OpKind::kRemove && !options.chaos) {
        tree.remove(op.slot, op.names);
        model.remove(op.slot, op.names);
      } else if (op.kind == OpKind::kMatch && !options.chaos) {
        tree.match(op.labels, overlaps);
        for (Slot slot = 0; slot < overlaps.held.size(); ++slot) {
          ASSERT_LE(overlaps.held[slot], model.held_depth(slot, op.labels));
        }
      }
      if (step % 1'000 == 0) {
        const auto wrong = tree.audit();
        ASSERT_EQ(wrong, std::nullopt) << "seed " << seed << ", step " << step << ": " << *wrong;
      }
    }
    EXPECT_GT(tree.stats().forgotten_exact, 0U) << seed;
  }
}

TEST(MemoryLimit, RefusesOneThatIsTooSmall) {
  EXPECT_THROW(PrefixTree({.memory_limit = 1'000}), InvalidArgument);
}

}  // namespace
}  // namespace kvroute::testing
