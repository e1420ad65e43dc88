#include "router/target_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kvroute/base/error.h"

namespace kvroute::detail {
namespace {

WorkerName named(std::int64_t number) { return number; }

void add(TargetTable& table, std::int64_t number, std::uint32_t ranks) {
  table.list({.name = named(number),
              .block_size = 16,
              .slots = table.take_slots(named(number), ranks, 16),
              .total_blocks = {},
              .labels = {}});
}

TEST(TargetTable, GivesTheLowestFreeSlots) {
  TargetTable table;
  add(table, 0, 2);
  add(table, 1, 1);
  table.free_slots(table.unlist(named(0)).slots);
  add(table, 2, 3);
  EXPECT_EQ(table.find(named(2))->slots, (std::vector<Slot>{0, 1, 3}));
  EXPECT_EQ(table.target(3), (TargetId{named(2), 2}));
  EXPECT_EQ(std::vector<Slot>(table.listed().begin(), table.listed().end()),
            (std::vector<Slot>{0, 1, 2, 3}));
}

TEST(TargetTable, KeepsASlotThatIsUnlistedButNotFree) {
  TargetTable table;
  add(table, 0, 1);
  const Worker leaving = table.unlist(named(0));
  add(table, 1, 1);
  EXPECT_EQ(table.find(named(1))->slots, (std::vector<Slot>{1}));
  table.free_slots(leaving.slots);
}

TEST(TargetTable, ASlotThatIsUnlistedHasNobodysIdentity) {
  TargetTable table;
  add(table, 0, 1);
  add(table, 1, 1);
  const std::uint64_t other = table.identities()[1];
  EXPECT_NE(table.identities()[0], 0U);
  (void)table.unlist(named(0));
  EXPECT_EQ(table.identities()[0], 0U);
  EXPECT_EQ(table.identities()[1], other);
}

TEST(TargetTable, RefusesMoreTargetsThanARouterHas) {
  TargetTable table;
  add(table, 0, kMaxTargets);
  EXPECT_THROW((void)table.take_slots(named(1), 1, 16), InvalidArgument);
}

TEST(TargetTable, ResolvesNamesToAscendingSlotsOnce) {
  TargetTable table;
  add(table, 5, 2);
  add(table, 3, 1);
  std::vector<Slot> slots{99};
  using Refs = std::vector<WorkerRef>;
  table.slots_of(Refs{{named(3), {}}, {named(5), {}}, {named(3), 0}}, slots);
  EXPECT_EQ(slots, (std::vector<Slot>{0, 1, 2}));
  EXPECT_THROW(table.slots_of({}, slots), InvalidArgument);
  table.slots_of(Refs{{named(5), 1}}, slots);
  EXPECT_EQ(slots, (std::vector<Slot>{1}));
  EXPECT_THROW(table.slots_of(Refs{{named(5), 2}}, slots), UnknownWorker);
  EXPECT_THROW(table.slots_of(Refs{{std::string("5"), {}}}, slots), UnknownWorker);
}

TEST(TargetTable, LooksAnAllowedSetUpAgainOnlyWhenMembershipChanges) {
  TargetTable table;
  add(table, 5, 2);
  add(table, 3, 1);
  const AllowedSet allowed({{named(3), {}}, {named(5), 1}, {named(3), 0}, {named(5), 7}});
  const auto slots = table.slots_of(allowed);
  EXPECT_EQ(*slots, (std::vector<Slot>{1, 2}));
  EXPECT_EQ(table.slots_of(allowed), slots);
  const Worker gone = table.unlist(named(3));
  EXPECT_EQ(*table.slots_of(allowed), (std::vector<Slot>{1}));
  EXPECT_EQ(*slots, (std::vector<Slot>{1, 2}));  // of whoever uses it still
  table.free_slots(gone.slots);
  TargetTable other;
  EXPECT_TRUE(other.slots_of(allowed)->empty());
  EXPECT_THROW(AllowedSet({}), InvalidArgument);
}

}  // namespace
}  // namespace kvroute::detail
