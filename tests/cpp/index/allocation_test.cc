#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <optional>

#include "hashes.h"

namespace {

std::atomic<std::size_t> allocations{0};
std::atomic<std::size_t> live_bytes{0};

void* counted(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) {
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded);
  if (memory == nullptr) throw std::bad_alloc();
  ++allocations;
  live_bytes += malloc_usable_size(memory);
  return memory;
}

void give_back(void* memory) noexcept {
  if (memory != nullptr) live_bytes -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { give_back(memory); }
void operator delete[](void* memory) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }

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
