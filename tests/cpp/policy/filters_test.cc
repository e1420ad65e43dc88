#include "kvroute/policy/filters.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "score_input_builder.h"

namespace kvroute {
namespace {

using Slots = std::vector<Slot>;

Slots slots_of(const Eligible& eligible) {
  return {eligible.slots().begin(), eligible.slots().end()};
}

TargetSet set_of(const Slots& slots) {
  TargetSet set;
  for (const Slot slot : slots) set.insert(slot);
  return set;
}

TEST(TargetSet, HoldsWhatWasInsertedAndNotErased) {
  TargetSet set;
  EXPECT_TRUE(set.empty());
  for (const Slot slot : {0U, 63U, 64U, 4095U, 64U}) set.insert(slot);
  EXPECT_EQ(set.size(), 4U);
  set.erase(64);
  set.erase(64);
  set.erase(100'000);
  EXPECT_EQ(set.size(), 3U);
  EXPECT_TRUE(set.contains(63));
  EXPECT_FALSE(set.contains(64));
  EXPECT_FALSE(set.contains(5000));
}

TEST(Eligible, ViewsItsSlotsUntilSomebodyIsExcluded) {
  const Slots all{1, 2, 5};
  Eligible eligible;
  eligible.begin(all);
  eligible.drop(set_of({7}), Exclusion::draining);
  EXPECT_EQ(eligible.slots().data(), all.data());
  eligible.drop(set_of({2}), Exclusion::draining);
  EXPECT_EQ(slots_of(eligible), (Slots{1, 5}));
  EXPECT_EQ(all, (Slots{1, 2, 5}));
}

TEST(Eligible, IsNarrowedByOneFilterAfterTheOther) {
  const Slots all{0, 1, 2, 3, 4, 5, 64, 65};
  Eligible eligible;
  eligible.begin(all, true);
  eligible.keep(set_of({0, 1, 2, 3, 64, 65}), Exclusion::label);
  eligible.drop(set_of({0, 5, 65}), Exclusion::draining);
  eligible.keep_if([](Slot slot) { return slot != 2; }, Exclusion::rank);
  EXPECT_EQ(slots_of(eligible), (Slots{1, 3, 64}));
  const std::vector<std::pair<Slot, Exclusion>> excluded(eligible.excluded().begin(),
                                                         eligible.excluded().end());
  EXPECT_EQ(excluded, (std::vector<std::pair<Slot, Exclusion>>{{4, Exclusion::label},
                                                               {5, Exclusion::label},
                                                               {0, Exclusion::draining},
                                                               {65, Exclusion::draining},
                                                               {2, Exclusion::rank}}));
}

TEST(Eligible, BeginsAnew) {
  Eligible eligible;
  const Slots first{1, 2};
  eligible.begin(first, true);
  eligible.keep(set_of({1}), Exclusion::label);
  const Slots second{3, 4, 9};
  eligible.begin(second);
  eligible.drop(set_of({9}), Exclusion::label);
  EXPECT_EQ(slots_of(eligible), (Slots{3, 4}));
  EXPECT_TRUE(eligible.excluded().empty());
}

TEST(Eligible, PrefersOnlyWhereSomebodyIsLeft) {
  const Slots all{1, 2, 3};
  Eligible eligible;
  eligible.begin(all);
  eligible.prefer(set_of({7}), Exclusion::lora);
  EXPECT_EQ(slots_of(eligible), all);
  eligible.prefer(set_of({2, 7}), Exclusion::lora);
  EXPECT_EQ(slots_of(eligible), (Slots{2}));
}

TEST(Eligible, CanBecomeEmpty) {
  const Slots all{1, 2};
  Eligible eligible;
  eligible.begin(all);
  eligible.keep({}, Exclusion::label);
  EXPECT_TRUE(eligible.slots().empty());
  eligible.prefer(set_of({1}), Exclusion::lora);
  EXPECT_TRUE(eligible.slots().empty());
}

class Overload : public testing::Test {
 protected:
  Slots left(const OverloadLimits& limits) {
    eligible_.begin(builder_.candidates, true);
    drop_overloaded(eligible_, limits, builder_.input());
    return slots_of(eligible_);
  }

  ScoreInputBuilder builder_{3};
  Eligible eligible_;
};

TEST_F(Overload, IsBeyondALimitNotAtIt) {
  builder_.report(0, {.waiting = 4, .running = {}, .kv_usage = 0.9});
  builder_.report(1, {.waiting = 5, .running = {}, .kv_usage = 0.95});
  builder_.loads[2].prefill_tokens = 100;
  EXPECT_EQ(left({}), (Slots{0, 1, 2}));
  EXPECT_EQ(left({.waiting = 4, .kv_usage = {}, .prefill_tokens = {}}), (Slots{0, 2}));
  EXPECT_EQ(eligible_.excluded().front(), (std::pair<Slot, Exclusion>{1, Exclusion::waiting}));
  EXPECT_EQ(left({.waiting = {}, .kv_usage = 0.9, .prefill_tokens = {}}), (Slots{0, 2}));
  EXPECT_EQ(eligible_.excluded().front().second, Exclusion::kv_usage);
  EXPECT_EQ(left({.waiting = {}, .kv_usage = {}, .prefill_tokens = 100}), (Slots{0, 1, 2}));
  EXPECT_EQ(left({.waiting = {}, .kv_usage = {}, .prefill_tokens = 99}), (Slots{0, 1}));
  EXPECT_EQ(eligible_.excluded().front().second, Exclusion::prefill);
}

TEST_F(Overload, CountsWhatWasSentSinceTheReport) {
  builder_.report(0, {.waiting = 1, .running = {}, .kv_usage = {}});
  builder_.loads[0].unreported = 3;
  builder_.report(1, {.waiting = 1, .running = {}, .kv_usage = {}});
  builder_.loads[1].unreported = 4;
  builder_.loads[2].unreported = 90;  // never reported
  EXPECT_EQ(left({.waiting = 4, .kv_usage = {}, .prefill_tokens = {}}), (Slots{0, 2}));
}

TEST_F(Overload, IsNotAssumedOfWhoIsSilentOrStale) {
  builder_.report(0, {.waiting = 9, .running = {}, .kv_usage = 1.0}, seconds_to_ns(39));
  builder_.report(1, {.waiting = 9, .running = {}, .kv_usage = 1.0}, seconds_to_ns(41));
  builder_.now = seconds_to_ns(100);
  EXPECT_EQ(left({.waiting = 0, .kv_usage = 0.5, .prefill_tokens = {}}), (Slots{0, 2}));
}

}  // namespace
}  // namespace kvroute
