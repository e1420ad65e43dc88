#include "index/waiting_room.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <string>

#include "choices.h"
#include "waiting_model.h"

namespace {

std::size_t live_bytes = 0;
constexpr std::size_t kHeader = alignof(std::max_align_t);

void* counted(std::size_t size) {
  void* memory = std::malloc(kHeader + size);
  if (memory == nullptr) throw std::bad_alloc();
  *static_cast<std::size_t*>(memory) = size;
  live_bytes += size;
  return static_cast<char*>(memory) + kHeader;
}

void give_back(void* memory) noexcept {
  if (memory == nullptr) return;
  void* const start = static_cast<char*>(memory) - kHeader;
  live_bytes -= *static_cast<std::size_t*>(start);
  std::free(start);
}

}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void operator delete(void* memory) noexcept { give_back(memory); }
void operator delete[](void* memory) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t) noexcept { give_back(memory); }

namespace kvroute::testing {
namespace {

using detail::WaitingChain;
using detail::WaitingRoom;
using Names = std::vector<std::uint64_t>;

Names numbers(std::size_t count, std::uint64_t first) {
  Names names(count);
  for (std::size_t i = 0; i < count; ++i) names[i] = first + i;
  return names;
}

std::vector<WaitingChain> all_of(const WaitingRoom& room) {
  std::vector<WaitingChain> chains;
  room.for_each([&chains](const WaitingChain& chain) { chains.push_back(chain); });
  return chains;
}

struct Waiting {
  explicit Waiting(std::size_t most) : room(most, &bytes) {}
  std::size_t add(Slot slot, std::uint64_t parent, const Names& names) {
    return room.add(slot, Tier::device, parent, 0, names, names);
  }
  std::size_t bytes = 0;
  WaitingRoom room;
};

TEST(WaitingRoom, DoesWhatAPlainListOfChainsDoes) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Choices choices(seed);
    const std::size_t most = seed % 7 == 0 ? seed / 7 : 1 + choices.below(300);
    const std::uint32_t names = 1 + choices.below(seed % 2 == 0 ? 8 : 400);
    const std::uint32_t slots = 1 + choices.below(5);
    Waiting waiting(most);
    WaitingRoom& room = waiting.room;
    WaitingModel model(most);
    for (int step = 0; step < 2'000; ++step) {
      const Slot slot = choices.below(slots) == 0 ? kMaxTargets - 1 : choices.below(slots);
      const Tier tier = choices.one_in(3) ? Tier::host : Tier::device;
      const std::uint64_t name = choices.below(names);
      const std::uint32_t kind = choices.below(100);
      if (kind < 40) {
        WaitingChain chain{slot, tier, choices.below(names), choices.below(3), {}, {}, {}};
        chain.names.resize(choices.one_in(10) ? choices.below(400) : choices.below(12));
        for (auto& one : chain.names) one = choices.below(names);
        for (std::size_t i = 0; i < chain.names.size(); ++i)
          chain.labels.push_back(choices.below(9));
        chain.gone.resize(chain.names.size());
        if (choices.one_in(4)) {
          for (auto& gone : chain.gone) gone = choices.below(2) == 0;
          ASSERT_EQ(room.add(chain), model.add(chain));
        } else {
          ASSERT_EQ(
              room.add(slot, tier, chain.parent, chain.namespace_seed, chain.names, chain.labels),
              model.add(chain));
        }
      } else if (kind < 65) {
        ASSERT_EQ(room.take(slot, name), model.take(slot, name));
      } else if (kind < 95) {
        const bool all = choices.one_in(4);
        ASSERT_EQ(room.remove(slot, tier, name, all), model.remove(slot, tier, name, all));
      } else if (kind < 97) {
        ASSERT_EQ(room.clear(slot), model.clear(slot));
      } else if (kind < 98) {
        ASSERT_EQ(room.clear(slot, tier), model.clear(slot, tier));
      } else {
        ASSERT_EQ(room.drop_oldest(), model.drop_oldest());
      }
      ASSERT_EQ(all_of(room), model.chains());
      ASSERT_EQ(room.blocks(), model.blocks());
      for (Slot one = 0; one < slots; ++one) ASSERT_EQ(room.any(one), model.any(one));
      ASSERT_EQ(room.any(kMaxTargets - 1), model.any(kMaxTargets - 1));
      ASSERT_EQ(waiting.bytes == 0, model.chains().empty());
      if (step % 16 == 0) {
        ASSERT_EQ(room.audit(), std::nullopt);
      }
    }
  }
}

TEST(WaitingRoom, CountsEveryByteThatItAllocates) {
  Choices choices(11);
  Waiting waiting(5'000);
  const Names names = numbers(600, 1);
  const std::size_t before = live_bytes;
  for (int step = 0; step < 20'000; ++step) {
    const Slot slot = choices.below(300);
    const std::uint64_t name = 1 + choices.below(600);
    if (choices.below(5) < 3) {
      const std::uint32_t first = choices.below(600);
      const std::size_t size = std::min(600 - first, choices.one_in(9) ? 600 : choices.below(4));
      const auto chain = std::span(names).subspan(first, size);
      waiting.room.add(slot, Tier::disk, name, 0, chain, chain);
    } else if (choices.one_in(2)) {
      waiting.room.remove(slot, Tier::disk, name, choices.one_in(2));
    } else {
      static_cast<void>(waiting.room.take(slot, name));
    }
    ASSERT_EQ(waiting.bytes, live_bytes - before);
  }
  ASSERT_GT(waiting.bytes, 0U);
  while (waiting.room.blocks() > 0) waiting.room.drop_oldest();
  EXPECT_EQ(waiting.bytes, 0U);
  EXPECT_EQ(live_bytes, before);
}

TEST(WaitingRoom, TakesTheOldestChainOfASlotThatWaitsForAParent) {
  Waiting waiting(100);
  waiting.add(1, 7, {10, 11});
  waiting.add(2, 7, {20});
  waiting.add(1, 7, {12});
  EXPECT_EQ(waiting.room.take(1, 8), std::nullopt);
  EXPECT_EQ(waiting.room.take(1, 7).value().names, (Names{10, 11}));
  EXPECT_EQ(waiting.room.take(1, 7).value().names, (Names{12}));
  EXPECT_EQ(waiting.room.take(1, 7), std::nullopt);
  EXPECT_FALSE(waiting.room.any(1));
  EXPECT_TRUE(waiting.room.any(2));
}

TEST(WaitingRoom, DoesNotTakeInWhatIsLongerThanItself) {
  Waiting waiting(4);
  waiting.add(0, 7, {1, 2});
  EXPECT_EQ(waiting.add(0, 8, numbers(5, 10)), 5U);
  EXPECT_EQ(waiting.room.blocks(), 2U);
  EXPECT_EQ(waiting.add(0, 8, {}), 0U);
  EXPECT_EQ(waiting.room.take(0, 8), std::nullopt);
  Waiting none(0);
  EXPECT_EQ(none.add(0, 7, {1}), 1U);
  EXPECT_FALSE(none.room.any(0));
}

TEST(WaitingRoom, CountsBlocksThatAreGoneAgainstItsSizeUntilTheirChainGoes) {
  Waiting waiting(4);
  waiting.add(0, 7, {1, 2, 3});
  EXPECT_EQ(waiting.room.remove(0, Tier::device, 1, false), 1U);
  EXPECT_EQ(waiting.room.remove(0, Tier::device, 2, false), 1U);
  EXPECT_EQ(waiting.room.blocks(), 1U);
  EXPECT_EQ(waiting.add(0, 8, {4, 5}), 1U) << "the one block that still waited";
  EXPECT_EQ(waiting.room.take(0, 7), std::nullopt);
}

TEST(WaitingRoom, GrowsNoFurtherThanItsBoundWhateverComes) {
  constexpr std::size_t kMost = 1 << 12;
  std::size_t most_bytes = 0;
  Waiting waiting(kMost);
  for (std::uint64_t i = 0; i < 40 * kMost; ++i) {  // every parent, name and many slots new
    waiting.add(static_cast<Slot>(i % kMaxTargets), 1'000'000 + i, {i});
    most_bytes = std::max(most_bytes, waiting.bytes);
    ASSERT_LE(waiting.room.blocks(), kMost);
  }
  EXPECT_LT(most_bytes, 240 * kMost) << "tables that are about to grow included";
  Waiting in_long_chains(kMost);
  for (std::uint64_t i = 0; i < 100; ++i) in_long_chains.add(0, i, numbers(256, 1'000 * i));
  EXPECT_LT(in_long_chains.bytes, 64 * kMost);
}

TEST(WaitingRoom, GivesBackWhatItNeededForMoreChains) {
  constexpr std::size_t kMost = 1 << 14;
  Waiting waiting(kMost);
  for (std::uint64_t i = 0; i < kMost; ++i) waiting.add(static_cast<Slot>(i % 64), i, {i});
  for (std::uint64_t i = 0; i < kMost - 10; ++i) waiting.room.drop_oldest();
  EXPECT_EQ(waiting.room.blocks(), 10U);
  EXPECT_LT(waiting.bytes, 10 * 200 + 3 * 32 * 16);
}

// One parent, one name, and everything at once: a walk along a queue would take minutes here.
TEST(WaitingRoom, IsNotSlowedByManyChainsOfOneParentAndName) {
  constexpr std::size_t kMost = 1 << 18;
  Waiting waiting(kMost);
  for (std::size_t round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < kMost; ++i) waiting.add(3, 7, {9});
  }
  EXPECT_EQ(waiting.room.blocks(), kMost);
  std::size_t taken = 0;
  for (std::size_t i = 0; i < kMost / 4; ++i) {
    if (waiting.room.take(3, 7)) ++taken;
    taken += waiting.room.remove(3, Tier::device, 9, false);
  }
  EXPECT_EQ(waiting.room.blocks(), kMost - taken);
  EXPECT_EQ(waiting.room.remove(3, Tier::device, 9, true), kMost / 2);
  EXPECT_EQ(waiting.bytes, 0U);

  waiting.add(3, 7, Names(kMost, 9));
  EXPECT_EQ(waiting.room.remove(3, Tier::device, 9, true), kMost);
  EXPECT_EQ(waiting.bytes, 0U);
}

}  // namespace
}  // namespace kvroute::testing
