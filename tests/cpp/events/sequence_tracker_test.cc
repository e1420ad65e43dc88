#include "kvroute/events/sequence_tracker.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <set>

#include "kvroute/base/random.h"

namespace kvroute {
namespace {

using Verdict = SequenceVerdict;

constexpr SequenceStep kApply{Verdict::apply};
constexpr SequenceStep kDuplicate{Verdict::duplicate};
constexpr SequenceStep kRestart{Verdict::restart};
constexpr std::uint64_t kContent = 1;
constexpr std::uint64_t kOther = 2;

TEST(SequenceTrackerTest, AppliesWhatFollows) {
  SequenceTracker tracker;
  for (std::uint64_t seq = 0; seq < 5; ++seq) EXPECT_EQ(tracker.observe(seq, seq), kApply);
  EXPECT_EQ(tracker.next(), 5U);
  EXPECT_TRUE(tracker.is_last_applied(4));
  EXPECT_FALSE(tracker.is_last_applied(3));
}

TEST(SequenceTrackerTest, MissesThePastWhenTheFirstNumberIsNotZero) {
  SequenceTracker tracker;
  EXPECT_EQ(tracker.observe(3, kContent), (SequenceStep{Verdict::gap, 0, 3}));
}

TEST(SequenceTrackerTest, FillsAGapFromAReplay) {
  SequenceTracker tracker;
  EXPECT_EQ(tracker.observe(0, kContent), kApply);
  EXPECT_EQ(tracker.observe(3, kContent), (SequenceStep{Verdict::gap, 1, 3}));
  EXPECT_EQ(tracker.place(0, kContent), kDuplicate);
  EXPECT_EQ(tracker.place(1, kContent), kApply);
  EXPECT_EQ(tracker.place(2, kContent), kApply);
  EXPECT_EQ(tracker.place(3, kContent), kApply);  // the one held back
  EXPECT_EQ(tracker.observe(4, kContent), kApply);
}

TEST(SequenceTrackerTest, GoesOnAfterAGapIsGivenUp) {
  SequenceTracker tracker;
  EXPECT_EQ(tracker.observe(0, kContent), kApply);
  EXPECT_EQ(tracker.observe(9, kContent).verdict, Verdict::gap);
  tracker.skip_to(9);
  EXPECT_FALSE(tracker.has_last_applied());
  EXPECT_EQ(tracker.place(9, kContent), kApply);
  tracker.skip_to(3);
  EXPECT_EQ(tracker.next(), 10U);
}

TEST(SequenceTrackerTest, LiveBatchesThatAReplayBroughtAreDuplicates) {
  SequenceTracker tracker;
  for (std::uint64_t seq = 0; seq < 5; ++seq) EXPECT_EQ(tracker.place(seq, seq), kApply);
  EXPECT_EQ(tracker.observe(3, 3), kDuplicate);
  EXPECT_EQ(tracker.observe(4, 4), kDuplicate);
  EXPECT_EQ(tracker.observe(5, 5), kApply);
}

TEST(SequenceTrackerTest, AFallingNumberIsARestart) {
  SequenceTracker tracker;
  for (std::uint64_t seq = 0; seq < 5; ++seq) EXPECT_EQ(tracker.observe(seq, seq), kApply);
  EXPECT_EQ(tracker.observe(2, kContent), kRestart);
  EXPECT_EQ(tracker.next(), 0U);
  EXPECT_EQ(tracker.observe(2, kContent), (SequenceStep{Verdict::gap, 0, 2}));
}

TEST(SequenceTrackerTest, ARepeatedNumberIsARestartOnlyWithOtherContentOrAfterAReconnect) {
  SequenceTracker tracker;
  EXPECT_EQ(tracker.observe(0, kContent), kApply);
  EXPECT_EQ(tracker.observe(0, kContent), kDuplicate);
  EXPECT_EQ(tracker.observe(0, kOther), kRestart);
  EXPECT_EQ(tracker.observe(0, kOther), kApply);
  tracker.reconnected();
  EXPECT_EQ(tracker.observe(0, kOther), kRestart);
  EXPECT_EQ(tracker.observe(0, kOther), kApply);
  tracker.reconnected();
  EXPECT_EQ(tracker.observe(1, kOther), kApply);
  EXPECT_EQ(tracker.observe(1, kOther), kDuplicate) << "the reconnect is over";
}

/// A publisher that numbers batches, loses some on the way, restarts, and replays what it keeps; a
/// follower that does what the tracker says must end up with what the present publisher has sent.
TEST(SequenceTrackerTest, FollowsAnyPublisher) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    SequenceTracker tracker;
    std::uint64_t epoch = 1;
    std::uint64_t sent = 0;
    std::set<std::uint64_t> applied;
    const auto content = [&](std::uint64_t seq) { return epoch * 1000003 + seq; };
    for (int step = 0; step < 200; ++step) {
      if (random.below(40) == 0 && sent > 3) {  // it restarts, and its first batches arrive
        ++epoch;
        sent = 0;
      }
      const std::uint64_t seq = sent++;
      if (random.below(5) == 0) continue;  // lost
      SequenceStep verdict = tracker.observe(seq, content(seq));
      if (verdict.verdict == Verdict::restart) {
        applied.clear();
        verdict = tracker.observe(seq, content(seq));
      }
      if (verdict.verdict == Verdict::gap) {
        ASSERT_EQ(verdict.to, seq);
        for (std::uint64_t missing = verdict.from; missing < seq; ++missing) {
          ASSERT_EQ(tracker.place(missing, content(missing)), kApply);
          applied.insert(missing);
        }
        verdict = tracker.place(seq, content(seq));
      }
      if (verdict.verdict == Verdict::apply) applied.insert(seq);
      ASSERT_EQ(tracker.next(), applied.size());
      ASSERT_TRUE(applied.empty() || *applied.rbegin() + 1 == applied.size());
    }
  }
}

}  // namespace
}  // namespace kvroute
