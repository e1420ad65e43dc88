#include "index/heap_relief.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>

#include "hashes.h"

namespace kvroute::testing {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST(HeapRelief, IsDueWhenMoreThanHalfOfMuchHasGone) {
  detail::HeapRelief heap;
  heap.note(200 * kMiB);
  heap.note(150 * kMiB);
  EXPECT_FALSE(heap.due(101 * kMiB));
  EXPECT_TRUE(heap.due(99 * kMiB));
  EXPECT_FALSE(heap.due(80 * kMiB)) << "counted from the last time on";
  EXPECT_TRUE(heap.due(10 * kMiB));
}

TEST(HeapRelief, IsNotDueForLittle) {
  detail::HeapRelief heap;
  heap.note(30 * kMiB);
  EXPECT_FALSE(heap.due(0));
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

/// Of this process, in bytes.
std::size_t resident() {
  std::ifstream file("/proc/self/statm");
  std::size_t total = 0;
  std::size_t pages = 0;
  file >> total >> pages;
  return pages * 4096;
}

TEST(HeapRelief, GivesTheSystemBackWhatATreeNoLongerHolds) {
  PrefixTree tree;
  const std::size_t before = resident();
  constexpr std::uint64_t kChains = 5'000;
  for (std::uint64_t chain = 1; chain <= kChains; ++chain) {
    const Hashes stored = hashes(1'000, chain);
    tree.store(0, std::nullopt, stored, stored);
  }
  const std::size_t most = tree.stats().bytes.total();
  ASSERT_GT(most, 100 * kMiB);
  for (std::uint64_t chain = 1; chain <= kChains; ++chain) tree.remove(0, hashes(1'000, chain));
  EXPECT_LT(resident(), before + most / 2);
}

#endif

}  // namespace
}  // namespace kvroute::testing
