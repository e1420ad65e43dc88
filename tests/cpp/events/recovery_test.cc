// How a stream recovers, through real sockets.

#include <gtest/gtest.h>

#include "subscriber_fixture.h"

namespace kvroute {
namespace {

using testing::eventually;
using testing::FakePublisher;
using testing::SubscriberFixture;

using Form = FakePublisher::ReplayForm;

class RecoveryTest : public SubscriberFixture {};

class ReplayFormTest : public SubscriberFixture, public ::testing::WithParamInterface<Form> {};

TEST_P(ReplayFormTest, ALateSubscriberLearnsThePast) {
  publish_with(GetParam());
  publish(3);
  const StreamId id = subscribe();
  await_subscriber();
  await_story("0 1 2");
  await_idle(id);
  publish(2);
  await_story("0 1 2 3 4");
  EXPECT_EQ(publisher_->requests(), std::vector<std::uint64_t>{0});
}

TEST_P(ReplayFormTest, AGapIsReplayed) {
  publish_with(GetParam());
  const StreamId id = subscribe();
  await_subscriber();
  await_idle(id);
  publish(2);
  lose(3);
  publish(2);
  await_story("0 1 2 3 4 5 6");
  EXPECT_EQ(publisher_->requests(), (std::vector<std::uint64_t>{0, 2}));
  ASSERT_TRUE(eventually([&] { return !subscriber_.stats(id)->replaying; }));
  const StreamStats stats = subscriber_.stats(id).value();
  EXPECT_EQ(stats.gaps, 1U);
  EXPECT_EQ(stats.replays, 2U);
  EXPECT_EQ(stats.lost, 0U);
  EXPECT_FALSE(stats.partial);
}

INSTANTIATE_TEST_SUITE_P(Forms, ReplayFormTest,
                         ::testing::Values(Form::without_topic, Form::with_topic,
                                           Form::without_end));

TEST_F(RecoveryTest, AGapWithoutReplayInvalidates) {
  publish_with(Form::none);
  const StreamId id = subscribe();
  await_subscriber();
  publish(2);
  lose(1);
  publish(2);
  await_story("0 1 !gap 3 4");
  ASSERT_TRUE(eventually([&] { return subscriber_.stats(id)->batches == 4; }));
  EXPECT_EQ(subscriber_.stats(id)->lost, 1U);
  EXPECT_TRUE(subscriber_.stats(id)->partial);
}

TEST_F(RecoveryTest, AReplayThatBeginsTooLateInvalidates) {
  publish_with(Form::with_topic);
  const StreamId id = subscribe();
  await_subscriber();
  await_idle(id);
  publish(2);
  await_story("0 1");
  lose(4);
  publisher_->forget_before(4);
  publish(1);
  await_story("0 1 !replay 4 5 6");
  publish(1);
  await_story("0 1 !replay 4 5 6 7");
}

TEST_F(RecoveryTest, ASilentReplaySocketIsNotWaitedForForever) {
  publish_with(Form::silent);
  publish(2);
  const StreamId id = subscribe();
  await_subscriber();
  await_idle(id);
  publish(1);
  await_story("2");
  lose(1);
  publish(1);
  await_story("2 !replay 4");
  EXPECT_TRUE(eventually([&] { return subscriber_.stats(id)->replay_failures >= 2; }));
}

TEST_F(RecoveryTest, ADeadReplayEndpointIsNotWaitedForForever) {
  publish_with(Form::none);
  KvStreamConfig config;
  config.endpoint = publisher_->endpoint();
  config.replay_endpoint = "tcp://127.0.0.1:1";
  config.sink = sink_;
  const StreamId id = subscriber_.add_stream(config);
  await_subscriber();
  publish(1);
  await_story("0");
  await_idle(id);
  lose(1);
  publish(1);
  await_story("0 !replay 2");
}

TEST_F(RecoveryTest, ARestartedEngineIsReplayedFromZero) {
  publish_with(Form::with_topic);
  const StreamId id = subscribe();
  await_subscriber();
  await_idle(id);
  publish(3);
  await_story("0 1 2");
  restart_publisher(Form::with_topic);
  publish(2);
  await_story("0 1 2 !restart 0 1");
  await_subscriber();
  publish(1);
  await_story("0 1 2 !restart 0 1 2");
  EXPECT_TRUE(eventually([&] { return subscriber_.stats(id)->restarts == 1; }));
}

TEST_F(RecoveryTest, AnEngineThatRestartedAndCaughtUpIsNoticed) {
  publish_with(Form::with_topic);
  const StreamId id = subscribe();
  await_subscriber();
  await_idle(id);
  publish(2);
  await_story("0 1");
  restart_publisher(Form::with_topic);
  lose(3);  // sent before our side was connected again
  await_story("0 1 !restart 0 1 2");
  await_subscriber();
  publish(1);
  await_story("0 1 !restart 0 1 2 3");
}

TEST_F(RecoveryTest, ARestartWithoutReplayIsNoticedByItsNumbers) {
  publish_with(Form::none);
  subscribe();
  await_subscriber();
  publish(3);
  await_story("0 1 2");
  restart_publisher(Form::none);
  await_subscriber();
  publish(2);
  await_story("0 1 2 !restart 0 1");
}

TEST_F(RecoveryTest, OversizedMessagesDoNotHarm) {
  publish_with(Form::none);
  const StreamId id = subscribe();
  await_subscriber();
  publish(1);
  await_story("0");
  publisher_->publish(testing::Payload(1 << 20, std::byte{0}));
  await_subscriber();  // the connection was dropped and made again
  publish(1);
  await_story("0 !gap 2");
  EXPECT_TRUE(eventually([&] { return subscriber_.stats(id)->reconnects == 1; }));
}

TEST_F(RecoveryTest, GarbageFramesAreCountedAndSkipped) {
  publish_with(Form::none);
  const StreamId id = subscribe();
  await_subscriber();
  const testing::Payload empty;
  const testing::Payload some(5, std::byte{0x93});
  publisher_->publish_frames({some});
  publisher_->publish_frames({empty, some, some});
  publisher_->publish_frames({empty, empty, empty, empty, empty, empty, some});
  publish(1);
  publisher_->publish(some);
  publish(1);
  await_story("0 !undecodable 2");
  ASSERT_TRUE(eventually([&] { return subscriber_.stats(id)->batches == 2; }));
  EXPECT_EQ(subscriber_.stats(id)->malformed_frames, 3U);
  EXPECT_EQ(subscriber_.stats(id)->undecodable, 1U);
}

}  // namespace
}  // namespace kvroute
