#include <gtest/gtest.h>

#include <cstddef>
#include <optional>

#include "counted_allocations.h"
#include "hashes.h"

namespace kvroute::testing {
namespace {

TEST(Allocation, NoneForAMatchIntoUsedBuffers) {
  PrefixTree tree;
  const Hashes labels = hashes(500, 1);
  for (Slot slot = 0; slot < 100; ++slot) {
    tree.store(slot, std::nullopt, hashes(500, 2), labels);
    tree.store(slot, std::nullopt, hashes(80, 100 + slot),
               joined(part(labels, 0, 50), hashes(30, 200 + slot)));
  }
  Overlaps overlaps;
  tree.match(labels, overlaps);
  const std::size_t before = allocations;
  for (int i = 0; i < 100; ++i) tree.match(labels, overlaps);
  EXPECT_EQ(allocations, before);
}

void expect_agreement(const PrefixTree& tree, std::size_t bytes_before) {
  const auto said = static_cast<double>(tree.stats().bytes.total());
  const auto real = static_cast<double>(live_bytes - bytes_before);
  EXPECT_NEAR(said / real, 1.0, 0.1) << "said " << said << ", allocated " << real;
}

TEST(Allocation, AgreesWithTheStatistics) {
  for (const bool own_names : {false, true}) {
    Hashes labels;
    const std::size_t before = live_bytes;
    PrefixTree tree;
    for (std::uint64_t i = 0; i < 2'000; ++i) {
      const auto slot = static_cast<Slot>(i % 64);
      const Hashes request = joined(hashes(1 + i % 40, 1), hashes(22, i + 10));
      Hashes names = request;
      if (own_names) {
        for (std::uint64_t& name : names) name = name * 64 + slot;
      }
      tree.store(slot, std::nullopt, names, request);
      if (i % 3 == 0) tree.predict(slot, hashes(30, i + 5'000), 0);
      if (i % 5 == 0) tree.remove(slot, part(names, 3, 9));
    }
    expect_agreement(tree, before);
  }
}

TEST(Allocation, FallsAfterRemovals) {
  const std::size_t before = live_bytes;
  PrefixTree tree;
  std::size_t full = 0;
  for (int cycle = 0; cycle < 3; ++cycle) {
    for (std::uint64_t i = 0; i < 1'000; ++i) {
      const std::uint64_t family = static_cast<std::uint64_t>(cycle) * 10'000 + i;
      tree.store(static_cast<Slot>(i % 8), std::nullopt, hashes(50, family), hashes(50, family));
    }
    full = live_bytes - before;
    for (std::uint64_t i = 0; i < 1'000; ++i) {
      tree.remove(static_cast<Slot>(i % 8),
                  hashes(50, static_cast<std::uint64_t>(cycle) * 10'000 + i));
    }
    EXPECT_LT(live_bytes - before, full / 20) << "cycle " << cycle;
  }
  EXPECT_LT(full, std::size_t{50'000} * 80);
}

}  // namespace
}  // namespace kvroute::testing
