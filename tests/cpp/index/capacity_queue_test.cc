#include "index/capacity_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kvroute/base/error.h"
#include "kvroute/base/random.h"

namespace kvroute::detail {
namespace {

constexpr Slot kSlot = 3;

std::vector<NodeId> served(CapacityQueue& queue, Slot slot) {
  std::vector<NodeId> nodes;
  while (const auto record = queue.pop(slot)) nodes.push_back(record->node);
  return nodes;
}

TEST(CapacityQueue, ServesTheOldestInstantFirstAndOfOneTheDeepest) {
  std::size_t bytes = 0;
  CapacityQueue queue(&bytes);
  const Nanoseconds first = queue.next_instant();
  const Nanoseconds second = queue.next_instant();
  queue.push(kSlot, {second, 10, 1});
  queue.push(kSlot, {first, 10, 2});
  queue.push(kSlot, {second, 30, 3});
  queue.push(kSlot, {first, 40, 4});
  EXPECT_EQ(served(queue, kSlot), (std::vector<NodeId>{4, 2, 3, 1}));
}

TEST(CapacityQueue, KeepsSlotsApart) {
  std::size_t bytes = 0;
  CapacityQueue queue(&bytes);
  queue.push(0, {queue.next_instant(), 1, 1});
  queue.push(kSlot, {queue.next_instant(), 1, 2});
  queue.clear(0);
  EXPECT_EQ(served(queue, 0), std::vector<NodeId>{});
  EXPECT_EQ(served(queue, kSlot), std::vector<NodeId>{2});
  EXPECT_EQ(served(queue, kMaxTargets - 1), std::vector<NodeId>{});
}

TEST(CapacityQueue, RefusesInstantsAfterWhichNoneWouldBeLeft) {
  std::size_t bytes = 0;
  CapacityQueue queue(&bytes);
  constexpr Nanoseconds kLast = kFirstInstant + kFirstInstant / 4;
  queue.skip_to(kLast);
  EXPECT_EQ(queue.next_instant(), kLast + 1);
  EXPECT_THROW(queue.skip_to(kLast + 1), InvalidArgument);
  EXPECT_THROW(queue.skip_to(kFirstInstant + kFirstInstant / 2 - 1), InvalidArgument);
}

TEST(CapacityQueue, GivesInstantsThatGrowAndAreNoTimes) {
  std::size_t bytes = 0;
  CapacityQueue queue(&bytes);
  const Nanoseconds first = queue.next_instant();
  EXPECT_FALSE((PredictedRange{kSlot, 0, 1, first}).expires());
  EXPECT_GT(queue.next_instant(), first);
  queue.skip_to(first + 100);
  EXPECT_EQ(queue.next_instant(), first + 101);
  queue.skip_to(first);
  EXPECT_EQ(queue.next_instant(), first + 102);
}

TEST(CapacityQueue, RemembersUpToWhenRecordsWerePassedOver) {
  std::size_t bytes = 0;
  CapacityQueue queue(&bytes);
  const Nanoseconds first = queue.next_instant();
  const Nanoseconds second = queue.next_instant();
  EXPECT_FALSE(queue.may_have_passed_over(kSlot, first));
  queue.pass_over(kSlot, first);
  EXPECT_TRUE(queue.may_have_passed_over(kSlot, first));
  EXPECT_FALSE(queue.may_have_passed_over(kSlot, second));
  EXPECT_FALSE(queue.may_have_passed_over(0, first));
}

TEST(CapacityQueue, SweepsOutWhatIsOutOfDateAndRepetitions) {
  std::size_t bytes = 0;
  CapacityQueue queue(&bytes);
  const Nanoseconds kept = queue.next_instant();
  const auto is_valid = [&](const CapacityQueue::Record& record) { return record.instant == kept; };
  for (std::uint32_t i = 0; i < 100'000; ++i) {
    queue.push(kSlot, {queue.next_instant(), 5, i});
    queue.push(kSlot, {kept, 1 + i % 7, 9});
    queue.sweep(kSlot, is_valid);
  }
  EXPECT_LT(bytes, 20'000U);
  while (const auto record = queue.pop(kSlot)) {
    if (record->node != 9) continue;
    EXPECT_EQ(record->end, 7U) << "the deepest of the repetitions was swept out";
    break;
  }
}

TEST(CapacityQueue, KeepsItsOrderThroughSweeps) {
  std::size_t bytes = 0;
  CapacityQueue queue(&bytes);
  Random random(5);
  std::vector<Nanoseconds> valid;
  for (int i = 0; i < 5'000; ++i) {
    const Nanoseconds instant = queue.next_instant();
    if (random.below(3) == 0) valid.push_back(instant);
    queue.push(kSlot, {instant, 1, static_cast<NodeId>(random.below(50))});
    queue.sweep(kSlot, [&](const CapacityQueue::Record& record) {
      return std::binary_search(valid.begin(), valid.end(), record.instant);
    });
  }
  std::vector<Nanoseconds> got;
  while (const auto record = queue.pop(kSlot)) {
    if (std::binary_search(valid.begin(), valid.end(), record->instant)) {
      got.push_back(record->instant);
    }
  }
  EXPECT_EQ(got, valid);
}

}  // namespace
}  // namespace kvroute::detail
