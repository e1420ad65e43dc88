#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "fake_publisher.h"
#include "kvroute/events/subscriber.h"
#include "payloads.h"
#include "recording_sink.h"

namespace kvroute::testing {

/// Looks again and again for what no call announces, for at most ten seconds.
[[nodiscard]] inline bool eventually(const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// A subscriber with short times, and a publisher where a test wants one.
class SubscriberFixture : public ::testing::Test {
 protected:
  using Form = FakePublisher::ReplayForm;

  static SubscriberOptions short_times() {
    SubscriberOptions options;
    options.replay_idle_timeout = std::chrono::milliseconds(150);
    options.replay_limit = std::chrono::seconds(5);
    options.replay_cooldown = std::chrono::milliseconds(0);
    options.max_message_bytes = 1 << 16;
    return options;
  }

  void publish_with(Form replay) {
    FakePublisher::Options options;
    options.replay = replay;
    publisher_.emplace(options);
  }
  /// Another engine process on the same ports.
  void restart_publisher(Form replay) {
    FakePublisher::Options options;
    options.endpoint = publisher_->endpoint();
    if (!publisher_->replay_endpoint().empty()) {
      options.replay_endpoint = publisher_->replay_endpoint();
    }
    options.replay = replay;
    publisher_.reset();
    ++life_;
    publisher_.emplace(options);
  }
  StreamId subscribe() {
    KvStreamConfig config;
    config.endpoint = publisher_->endpoint();
    config.replay_endpoint = publisher_->replay_endpoint();
    config.sink = sink_;
    return subscriber_.add_stream(config);
  }
  void await_subscriber() { ASSERT_TRUE(publisher_->await_subscriber()); }
  void await_story(const std::string& story) {
    ASSERT_TRUE(sink_->await_story(story)) << "told: " << sink_->story();
  }
  /// The initial replay is over.
  void await_idle(StreamId id) {
    ASSERT_TRUE(eventually([&] {
      const std::optional<StreamStats> stats = subscriber_.stats(id);
      return stats && stats->replays > 0 && !stats->replaying;
    }));
  }

  Payload next_batch() { return stored_batch({.first_hash = life_ * 1000000 + ++made_}); }
  void publish(int count) {
    for (int i = 0; i < count; ++i) publisher_->publish(next_batch());
  }
  void lose(int count) {
    for (int i = 0; i < count; ++i) publisher_->lose(next_batch());
  }

  std::uint64_t life_ = 1;
  std::uint64_t made_ = 0;
  std::optional<FakePublisher> publisher_;
  std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
  EventSubscriber subscriber_{short_times()};
};

}  // namespace kvroute::testing
