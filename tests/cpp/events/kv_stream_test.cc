#include "events/kv_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "payloads.h"
#include "recording_sink.h"

namespace kvroute::detail {
namespace {

using namespace std::chrono_literals;
using kvroute::testing::Payload;
using kvroute::testing::RecordingSink;
using kvroute::testing::stored_batch;

/// What an engine process has published and still keeps for replays.
class Engine {
 public:
  explicit Engine(std::uint64_t life) : life_(life) {}

  /// The batch of this number: the same whenever asked for, another in another life.
  [[nodiscard]] Payload batch(std::uint64_t seq) const {
    return stored_batch({.first_hash = life_ * 100000 + seq + 1});
  }
  std::uint64_t publish() { return sent_++; }
  [[nodiscard]] std::uint64_t sent() const { return sent_; }
  void keep_from(std::uint64_t seq) { kept_from_ = seq; }
  [[nodiscard]] std::uint64_t kept_from() const { return kept_from_; }

 private:
  std::uint64_t life_;
  std::uint64_t sent_ = 0;
  std::uint64_t kept_from_ = 0;
};

class KvStreamTest : public ::testing::Test {
 protected:
  void start(bool with_replay) {
    KvStreamConfig config;
    config.endpoint = "tcp://engine:5557";
    config.replay_endpoint = with_replay ? "tcp://engine:5558" : "";
    config.sink = sink_;
    stream_.emplace(config, options_, decoder_);
  }

  void live(std::uint64_t seq) {
    const Payload payload = engine_.batch(seq);
    stream_->on_live({seq, payload}, now_);
  }
  /// Publishes `count` batches; those in `lost` do not arrive.
  void publish(std::uint64_t count, const std::vector<std::uint64_t>& lost = {}) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t seq = engine_.publish();
      if (std::find(lost.begin(), lost.end(), seq) == lost.end()) live(seq);
    }
  }
  void replay_one(std::uint64_t seq) {
    const Payload payload = engine_.batch(seq);
    stream_->on_replayed({seq, payload}, now_);
  }
  /// Answers every request as a publisher does. What a newer request has made void is not sent.
  void answer(bool with_end = true) {
    while (const auto from = stream_->take_replay_request()) {
      requests_.push_back(*from);
      const std::uint64_t asked = stream_->stats().replays;
      const auto is_void = [&] { return stream_->stats().replays != asked; };
      for (std::uint64_t seq = std::max(*from, engine_.kept_from()); seq < engine_.sent(); ++seq) {
        if (!is_void()) replay_one(seq);
      }
      if (!is_void() && with_end) stream_->on_replay_end(now_);
    }
  }
  void become_another() {
    engine_ = Engine(++life_);
    stream_->on_disconnected();
  }

  SubscriberOptions options_;
  BatchDecoder decoder_;
  std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
  std::optional<KvStream> stream_;
  std::uint64_t life_ = 1;
  Engine engine_{1};
  KvStream::Time now_{};
  std::vector<std::uint64_t> requests_;
};

TEST_F(KvStreamTest, PassesWhatArrivesInOrder) {
  start(false);
  stream_->on_connected(now_);
  publish(4);
  EXPECT_EQ(sink_->story(), "0 1 2 3");
  EXPECT_EQ(stream_->stats().batches, 4U);
  EXPECT_EQ(stream_->stats().last_seq, 3U);
  EXPECT_FALSE(stream_->stats().partial);
}

TEST_F(KvStreamTest, LearnsThePastWhenConnected) {
  start(true);
  engine_.publish();
  engine_.publish();
  stream_->on_connected(now_);
  EXPECT_TRUE(stream_->replaying());
  answer();
  EXPECT_FALSE(stream_->replaying());
  publish(1);
  EXPECT_EQ(sink_->story(), "0 1 2");
  EXPECT_EQ(requests_, std::vector<std::uint64_t>{0});
  EXPECT_FALSE(stream_->stats().partial);
}

TEST_F(KvStreamTest, DropsLiveBatchesThatTheReplayBrought) {
  start(true);
  for (int i = 0; i < 3; ++i) engine_.publish();
  stream_->on_connected(now_);
  answer();
  live(1);
  live(2);
  publish(1);
  EXPECT_EQ(sink_->story(), "0 1 2 3");
  EXPECT_EQ(stream_->stats().duplicates, 2U);
}

TEST_F(KvStreamTest, FillsAGapFromTheReplay) {
  start(true);
  publish(5, {2, 3});
  EXPECT_EQ(sink_->story(), "0 1");
  ASSERT_TRUE(stream_->replaying());
  answer();
  publish(1);
  EXPECT_EQ(sink_->story(), "0 1 2 3 4 5");
  EXPECT_EQ(requests_, std::vector<std::uint64_t>{2});
  EXPECT_EQ(stream_->stats().gaps, 1U);
  EXPECT_EQ(stream_->stats().lost, 0U);
  EXPECT_FALSE(stream_->stats().partial);
}

TEST_F(KvStreamTest, InvalidatesWhereThereIsNoReplay) {
  start(false);
  publish(4, {2});
  EXPECT_EQ(sink_->story(), "0 1 !gap 3");
  EXPECT_EQ(stream_->stats().lost, 1U);
  EXPECT_TRUE(stream_->stats().partial);
}

TEST_F(KvStreamTest, AMissingPastInvalidatesNothingWhenNothingWasTold) {
  start(false);
  engine_.publish();
  publish(1);
  EXPECT_EQ(sink_->story(), "1");
  EXPECT_EQ(stream_->stats().lost, 1U);
  EXPECT_TRUE(stream_->stats().partial);
}

TEST_F(KvStreamTest, InvalidatesWhenTheReplayBeginsTooLate) {
  start(true);
  publish(9, {3, 4, 5, 6, 7});
  engine_.keep_from(6);
  answer();
  publish(1);
  EXPECT_EQ(sink_->story(), "0 1 2 !replay 6 7 8 9");
  EXPECT_EQ(stream_->stats().lost, 3U);
  EXPECT_EQ(stream_->stats().replay_failures, 1U);
}

TEST_F(KvStreamTest, InvalidatesWhenTheReplayEndsTooEarly) {
  start(true);
  publish(6, {2, 3, 4});
  ASSERT_EQ(stream_->take_replay_request(), 2U);
  replay_one(2);
  stream_->on_replay_end(now_);
  EXPECT_EQ(sink_->story(), "0 1 2 !replay 5");
  EXPECT_EQ(stream_->stats().lost, 2U);
}

TEST_F(KvStreamTest, InvalidatesWhenTheReplayIsSilent) {
  start(true);
  publish(4, {2});
  now_ += options_.replay_idle_timeout - 1ms;
  stream_->on_time(now_);
  EXPECT_TRUE(stream_->replaying());
  now_ += 1ms;
  stream_->on_time(now_);
  EXPECT_FALSE(stream_->replaying());
  EXPECT_EQ(sink_->story(), "0 1 !replay 3");
}

TEST_F(KvStreamTest, AReplayWithoutEndMarkCountsIfItBroughtEverything) {
  start(true);
  publish(4, {2});
  answer(false);
  now_ += options_.replay_idle_timeout;
  stream_->on_time(now_);
  EXPECT_EQ(sink_->story(), "0 1 2 3");
  EXPECT_FALSE(stream_->stats().partial);
}

TEST_F(KvStreamTest, AReplayThatNeverEndsIsCutOff) {
  start(true);
  publish(3, {1});
  ASSERT_TRUE(stream_->take_replay_request());
  const auto started = now_;
  while (stream_->replaying()) {
    now_ += 1s;
    replay_one(0);
    stream_->on_time(now_);
    ASSERT_LE(now_ - started, options_.replay_limit);
  }
  EXPECT_EQ(sink_->story(), "0 !replay 2");
}

TEST_F(KvStreamTest, DoesNotAskAgainSoonAfterAFailure) {
  start(true);
  publish(3, {1});
  ASSERT_TRUE(stream_->take_replay_request());
  stream_->on_replay_end(now_);
  publish(2, {3});
  EXPECT_FALSE(stream_->replaying());
  EXPECT_EQ(sink_->story(), "0 !replay 2 !gap 4");
  now_ += options_.replay_cooldown;
  publish(2, {5});
  EXPECT_TRUE(stream_->replaying());
  answer();
  EXPECT_EQ(sink_->story(), "0 !replay 2 !gap 4 5 6");
}

TEST_F(KvStreamTest, AsksAgainForAnswersThatWereDroppedOnTheirWay) {
  start(true);
  publish(10, {1, 2, 3, 4, 5, 6, 7, 8});
  ASSERT_EQ(stream_->take_replay_request(), 1U);
  replay_one(1);
  replay_one(2);
  replay_one(6);  // 3, 4 and 5 did not fit into the publisher's queue
  ASSERT_EQ(stream_->take_replay_request(), 3U);
  for (std::uint64_t seq = 3; seq < 10; ++seq) replay_one(seq);
  stream_->on_replay_end(now_);
  EXPECT_EQ(sink_->story(), "0 1 2 3 4 5 6 7 8 9");
  EXPECT_EQ(stream_->stats().replay_failures, 0U);
}

TEST_F(KvStreamTest, AReplayWithAHoleOfItsOwnInvalidatesOnce) {
  start(true);
  publish(6, {1, 2, 3, 4});
  for (int i = 0; i < 2; ++i) {
    const auto from = stream_->take_replay_request();
    ASSERT_TRUE(from);
    for (std::uint64_t seq = *from; seq < 6; ++seq) {
      if (seq == 2) continue;  // the engine burned this number
      replay_one(seq);
      if (stream_->stats().replays == 2 && i == 0) break;
    }
  }
  stream_->on_replay_end(now_);
  EXPECT_EQ(sink_->story(), "0 1 !replay 3 4 5");
  EXPECT_EQ(stream_->stats().lost, 1U);
}

TEST_F(KvStreamTest, ARestartIsInvalidatedAndReplayedFromZero) {
  start(true);
  publish(5);
  become_another();
  publish(3, {0, 1});
  ASSERT_TRUE(stream_->replaying());
  answer();
  EXPECT_EQ(sink_->story(), "0 1 2 3 4 !restart 0 1 2");
  EXPECT_EQ(stream_->stats().restarts, 1U);
  EXPECT_FALSE(stream_->stats().partial);
}

TEST_F(KvStreamTest, ARestartWithoutReplayGoesOnPartially) {
  start(false);
  publish(5);
  become_another();
  publish(3, {0, 1});
  EXPECT_EQ(sink_->story(), "0 1 2 3 4 !restart 2");
  EXPECT_TRUE(stream_->stats().partial);
  become_another();
  publish(1);
  EXPECT_EQ(sink_->story(), "0 1 2 3 4 !restart 2 !restart 0");
  EXPECT_FALSE(stream_->stats().partial);
}

TEST_F(KvStreamTest, AReconnectToTheSameEngineChangesNothing) {
  start(true);
  stream_->on_connected(now_);
  answer();
  publish(3);
  stream_->on_disconnected();
  EXPECT_FALSE(stream_->stats().connected);
  engine_.publish();
  stream_->on_connected(now_);
  answer();
  publish(1);
  EXPECT_EQ(sink_->story(), "0 1 2 3 4");
  EXPECT_EQ(requests_, (std::vector<std::uint64_t>{0, 2}));
  EXPECT_EQ(stream_->stats().reconnects, 1U);
  EXPECT_EQ(stream_->stats().restarts, 0U);
}

TEST_F(KvStreamTest, AReconnectFindsAnEngineThatHasCaughtUpUnseen) {
  start(true);
  stream_->on_connected(now_);
  answer();
  publish(3);
  become_another();
  for (int i = 0; i < 4; ++i) engine_.publish();
  stream_->on_connected(now_);
  ASSERT_EQ(stream_->take_replay_request(), 2U);
  replay_one(2);  // the same number with other content
  answer();
  publish(1);
  EXPECT_EQ(sink_->story(), "0 1 2 !restart 0 1 2 3 4");
  EXPECT_EQ(stream_->stats().restarts, 1U);
}

TEST_F(KvStreamTest, AReconnectFindsAnEngineThatHasBarelyBegun) {
  start(true);
  stream_->on_connected(now_);
  answer();
  publish(3);
  become_another();
  engine_.publish();
  stream_->on_connected(now_);
  ASSERT_EQ(stream_->take_replay_request(), 2U);
  stream_->on_replay_end(now_);
  answer();
  EXPECT_EQ(sink_->story(), "0 1 2 !restart 0");
}

TEST_F(KvStreamTest, WithoutReplayAReconnectTakesARepeatedNumberAsARestart) {
  start(false);
  stream_->on_connected(now_);
  publish(1);
  become_another();
  stream_->on_connected(now_);
  publish(1);
  EXPECT_EQ(sink_->story(), "0 !restart 0");
}

TEST_F(KvStreamTest, AReconnectDuringAReplayIsCheckedAfterIt) {
  start(true);
  stream_->on_connected(now_);
  answer();
  publish(3, {1});
  ASSERT_TRUE(stream_->replaying());
  stream_->on_disconnected();
  stream_->on_connected(now_);
  requests_.clear();
  answer();
  EXPECT_EQ(requests_, (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(sink_->story(), "0 1 2");
}

TEST_F(KvStreamTest, AnUndecodableBatchInvalidates) {
  start(false);
  publish(2);
  const Payload garbage(7, std::byte{0xC1});
  stream_->on_live({engine_.publish(), garbage}, now_);
  publish(1);
  EXPECT_EQ(sink_->story(), "0 1 !undecodable 3");
  EXPECT_EQ(stream_->stats().undecodable, 1U);
}

TEST_F(KvStreamTest, InvalidatesEveryRankThatWasTold) {
  start(false);
  for (const std::uint32_t rank : {0U, 3U}) {
    const Payload payload = stored_batch({}, rank);
    stream_->on_live({engine_.publish(), payload}, now_);
  }
  publish(2, {2});
  std::vector<std::uint32_t> ranks;
  for (const auto& call : sink_->calls(kvroute::testing::SinkCall::Kind::invalidated)) {
    ranks.push_back(call.dp_rank);
  }
  EXPECT_EQ(ranks, (std::vector<std::uint32_t>{0, 3}));
}

TEST_F(KvStreamTest, ABatchsOwnRankWins) {
  start(false);
  const Payload payload = stored_batch({}, 5);
  stream_->on_live({0, payload}, now_);
  EXPECT_EQ(sink_->calls().front().dp_rank, 5U);
}

class ThrowingSink : public RecordingSink {
 public:
  void on_stored(std::uint32_t dp_rank, const BlockStored& event) override {
    RecordingSink::on_stored(dp_rank, event);
    throw std::runtime_error("no room");
  }
};

TEST_F(KvStreamTest, ASinkThatThrowsIsInvalidatedAndGoesOn) {
  sink_ = std::make_shared<ThrowingSink>();
  start(false);
  publish(2);
  EXPECT_EQ(sink_->story(), "!sink_error !sink_error");
  EXPECT_EQ(stream_->stats().sink_errors, 2U);
  EXPECT_EQ(stream_->stats().batches, 2U);
}

TEST_F(KvStreamTest, EmptyBatchesKeepTheSequence) {
  start(false);
  const Payload empty = kvroute::testing::from_hex("93cb3ff00000000000009000");
  for (int i = 0; i < 3; ++i) stream_->on_live({engine_.publish(), empty}, now_);
  EXPECT_EQ(sink_->story(), "0 1 2");
}

}  // namespace
}  // namespace kvroute::detail
