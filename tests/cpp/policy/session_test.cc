#include "kvroute/policy/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "chosen.h"
#include "kvroute/base/random.h"

namespace kvroute {
namespace {

// Where each of 10,000 sessions goes.
std::vector<Slot> homes(ScoreInputBuilder& builder, const Policy& policy) {
  std::vector<Slot> homes;
  Random sessions(11);
  PickState state(1);
  for (int i = 0; i < 10'000; ++i) {
    builder.session = sessions.next();
    homes.push_back(chosen(policy, builder, state));
  }
  return homes;
}

TEST(Session, KeepsEachSessionWhereItIs) {
  ScoreInputBuilder builder(8);
  const auto before = homes(builder, Session{});
  for (TargetLoad& load : builder.loads) load.requests = 3;
  EXPECT_EQ(homes(builder, Session{}), before);
}

TEST(Session, SpreadsSessionsEvenly) {
  ScoreInputBuilder builder(8);
  const auto all = homes(builder, Session{});
  for (Slot slot = 0; slot < 8; ++slot) {
    EXPECT_NEAR(static_cast<double>(std::ranges::count(all, slot)), 1250, 150) << slot;
  }
}

TEST(Session, MovesOnlyTheSessionsOfAMissingTarget) {
  ScoreInputBuilder builder(8);
  const auto before = homes(builder, Session{});
  builder.candidates = {0, 1, 2, 4, 5, 6, 7};
  const auto without = homes(builder, Session{});
  std::vector<int> moved(8);
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (before[i] == 3) {
      ++moved[without[i]];
    } else {
      EXPECT_EQ(without[i], before[i]);
    }
  }
  EXPECT_EQ(moved[3], 0);
  for (const Slot slot : builder.candidates) EXPECT_GT(moved[slot], 100);  // to all of the others
  builder.candidates = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(homes(builder, Session{}), before);  // as if nothing had been
}

TEST(Session, MovesOneOfNSessionsToANewTarget) {
  ScoreInputBuilder builder(8);
  builder.candidates = {0, 1, 2, 3, 4, 5, 6};
  const auto before = homes(builder, Session{});
  builder.candidates = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto with = homes(builder, Session{});
  int moved = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (with[i] == before[i]) continue;
    EXPECT_EQ(with[i], 7U);
    ++moved;
  }
  EXPECT_NEAR(moved, 1250, 150);
}

TEST(Session, KnowsTargetsByIdentityAndNotBySlot) {
  ScoreInputBuilder builder(4);
  const auto before = homes(builder, Session{});
  std::ranges::reverse(builder.identities);
  const auto reversed = homes(builder, Session{});
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_EQ(reversed[i], 3 - before[i]);
}

TEST(Session, DoesNotLookAtTheRequestsTemperature) {
  ScoreInputBuilder builder(8);
  const auto before = homes(builder, Session{});
  builder.overrides.temperature = 5;
  EXPECT_EQ(homes(builder, Session{}), before);
}

TEST(Session, PassesOverAFullTargetForTheNextInOrder) {
  ScoreInputBuilder builder(4);
  builder.session = 42;
  PickState state(1);
  const Session bounded(1.5);
  const Slot home = chosen(bounded, builder, state);
  builder.candidates.erase(std::ranges::find(builder.candidates, home));
  const Slot next = chosen(bounded, builder, state);
  builder.candidates = {0, 1, 2, 3};

  for (TargetLoad& load : builder.loads) load.requests = 2;
  builder.loads[home].requests = 4;  // ceil(1.5 * 11/4) = 5 may be there
  EXPECT_EQ(chosen(bounded, builder, state), home);
  builder.loads[home].requests = 5;  // ceil(1.5 * 12/4) = 5
  EXPECT_EQ(chosen(bounded, builder, state), next);
  EXPECT_EQ(chosen(Session{}, builder, state), home);
}

TEST(Session, AlwaysFindsRoomBelowTheBound) {
  const Session bounded(1);
  ScoreInputBuilder builder(5);
  PickState state(1);
  Random random(3);
  for (int request = 1; request <= 500; ++request) {
    builder.session = random.below(3);  // three sessions for five targets
    ++builder.loads[chosen(bounded, builder, state)].requests;
    for (const TargetLoad& load : builder.loads) EXPECT_LE(load.requests, (request + 4) / 5);
  }
}

TEST(Session, FallsBackWithoutASession) {
  ScoreInputBuilder builder(2);
  EXPECT_EQ(decider_of(Session{}, builder), "qps");
  const auto policy = make_policy({"session", {{"fallback", {"kvaware"}}}});
  builder.held = {1, 0};
  EXPECT_EQ(decider_of(*policy, builder), "kvaware");
  EXPECT_TRUE(policy->needs_overlap());
  EXPECT_FALSE(Session{}.needs_overlap());
  builder.session = 0;
  EXPECT_EQ(decider_of(*policy, builder), "session");
}

TEST(Session, RefusesABoundBelowOne) {
  EXPECT_NE(refusal_of({"session", {{"bounded_load", {0.5}}}}), "");
  EXPECT_EQ(refusal_of({"session", {{"bounded_load", {0.0}}}}), "");
  EXPECT_EQ(refusal_of({"session", {{"bounded_load", {1.0}}}}), "");
}

}  // namespace
}  // namespace kvroute
