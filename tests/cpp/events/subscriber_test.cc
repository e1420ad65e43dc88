#include "kvroute/events/subscriber.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "kvroute/base/error.h"
#include "subscriber_fixture.h"

namespace kvroute {
namespace {

using testing::eventually;
using testing::FakePublisher;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::RecordingSink;
using testing::stored_batch;
using testing::SubscriberFixture;

using Form = FakePublisher::ReplayForm;

class SubscriberTest : public SubscriberFixture {
 protected:
  KvStreamConfig config_for(const FakePublisher& publisher, std::shared_ptr<EventSink> sink) {
    KvStreamConfig config;
    config.endpoint = publisher.endpoint();
    config.replay_endpoint = publisher.replay_endpoint();
    config.sink = std::move(sink);
    return config;
  }
};

TEST_F(SubscriberTest, CountsWhatItPasses) {
  publish_with(Form::with_topic);
  const StreamId id = subscribe();
  await_subscriber();
  publish(3);
  await_story("0 1 2");
  ASSERT_TRUE(eventually([&] { return subscriber_.stats(id)->batches == 3; }));
  const StreamStats stats = subscriber_.stats(id).value();
  EXPECT_TRUE(stats.connected);
  EXPECT_EQ(stats.last_seq, 2U);
  EXPECT_EQ(stats.events.stored_blocks, 3U);
  EXPECT_GT(stats.bytes, 0U);
}

TEST_F(SubscriberTest, BindsForAnEngineThatConnects) {
  KvStreamConfig config;
  config.endpoint = "tcp://127.0.0.1:*";
  config.sink = sink_;
  const StreamId id = subscriber_.add_stream(config);
  const std::string bound = subscriber_.endpoint(id).value();
  EXPECT_THAT(bound, HasSubstr("tcp://127.0.0.1:"));
  EXPECT_THAT(bound, Not(HasSubstr("*")));

  FakePublisher engine({.endpoint = bound, .replay = Form::none, .connects = true});
  ASSERT_TRUE(engine.await_subscriber());
  engine.publish(next_batch());
  await_story("0");
}

TEST_F(SubscriberTest, TakesOnlyItsTopic) {
  publisher_.emplace(FakePublisher::Options{.replay = Form::none, .topic = "kv@a:1@m"});
  KvStreamConfig config = config_for(*publisher_, sink_);
  config.topic = "kv@a";
  const StreamId id = subscriber_.add_stream(config);
  const auto other = std::make_shared<RecordingSink>();
  config.topic = "kv@b";
  config.sink = other;
  const StreamId unwanted = subscriber_.add_stream(config);
  await_subscriber();
  await_subscriber();
  publish(1);
  await_story("0");
  EXPECT_TRUE(eventually([&] { return subscriber_.stats(id)->batches == 1; }));
  EXPECT_EQ(subscriber_.stats(unwanted)->batches, 0U);
}

TEST_F(SubscriberTest, ServesManyStreams) {
  constexpr std::size_t kStreams = 32;
  constexpr int kBatches = 50;
  std::vector<std::unique_ptr<FakePublisher>> engines;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (std::size_t i = 0; i < kStreams; ++i) {
    engines.push_back(std::make_unique<FakePublisher>(FakePublisher::Options{}));
    sinks.push_back(std::make_shared<RecordingSink>());
    subscriber_.add_stream(config_for(*engines[i], sinks[i]));
  }
  for (const auto& engine : engines) ASSERT_TRUE(engine->await_subscriber());
  for (int batch = 0; batch < kBatches; ++batch) {
    for (const auto& engine : engines) engine->publish(next_batch());
  }
  std::vector<std::uint64_t> all;
  for (std::uint64_t seq = 0; seq < kBatches; ++seq) all.push_back(seq);
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->await([&] { return sink->sequence().size() == kBatches; }));
    EXPECT_EQ(sink->sequence(), all);
  }
}

/// Counts batches and keeps none of them.
class CountingSink : public EventSink {
 public:
  void on_stored(std::uint32_t, const BlockStored&) override {}
  void on_removed(std::uint32_t, const BlockRemoved&) override {}
  void on_cleared(std::uint32_t, Tier) override {}
  void on_invalidated(std::uint32_t, InvalidationReason) override {}
  void on_batch_end(std::uint32_t, std::uint64_t) override { ++batches; }

  std::atomic<std::uint64_t> batches{0};
};

TEST_F(SubscriberTest, AFloodDoesNotStarveOthers) {
  publish_with(Form::none);
  FakePublisher flood({.replay = Form::none});
  const auto flooded = std::make_shared<CountingSink>();
  subscriber_.add_stream(config_for(flood, flooded));
  ASSERT_TRUE(flood.await_subscriber());
  subscribe();
  await_subscriber();
  constexpr std::uint64_t kFlood = 5000;
  const auto batch = stored_batch({.blocks = 64, .block_size = 16});
  for (std::uint64_t i = 0; i < kFlood; ++i) {
    flood.publish(batch);
    if (i == kFlood / 2) publish(1);
  }
  await_story("0");
  EXPECT_TRUE(eventually([&] { return flooded->batches == kFlood; }));
}

/// Notices a call after the stream was removed.
class GuardedSink : public RecordingSink {
 public:
  void on_batch_end(std::uint32_t dp_rank, std::uint64_t seq) override {
    if (removed) called_after_removal = true;
    RecordingSink::on_batch_end(dp_rank, seq);
  }
  std::atomic<bool> removed{false};
  std::atomic<bool> called_after_removal{false};
};

TEST_F(SubscriberTest, NoSinkIsCalledOnceItsStreamIsRemoved) {
  publish_with(Form::none);
  std::atomic<bool> done{false};
  auto sink = std::make_shared<GuardedSink>();
  StreamId id = subscriber_.add_stream(config_for(*publisher_, sink));
  await_subscriber();
  std::thread traffic([&] {
    while (!done) publish(1);
  });
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(sink->await([&] { return !sink->sequence().empty(); }));
    ASSERT_TRUE(subscriber_.remove_stream(id));
    sink->removed = true;
    EXPECT_EQ(sink.use_count(), 1) << "the subscriber has let go of it";
    EXPECT_FALSE(subscriber_.stats(id));
    EXPECT_FALSE(subscriber_.remove_stream(id));
    EXPECT_FALSE(sink->called_after_removal);
    sink = std::make_shared<GuardedSink>();
    id = subscriber_.add_stream(config_for(*publisher_, sink));
  }
  done = true;
  traffic.join();
}

TEST_F(SubscriberTest, StreamsComeAndGoFromManyThreads) {
  publish_with(Form::with_topic);
  std::vector<std::thread> threads;
  std::atomic<int> removed{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        const auto id =
            subscriber_.add_stream(config_for(*publisher_, std::make_shared<RecordingSink>()));
        static_cast<void>(subscriber_.stats(id));
        if (subscriber_.remove_stream(id)) ++removed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(removed, 100);
}

TEST_F(SubscriberTest, ClosesWhileBusy) {
  publish_with(Form::with_topic);
  const auto sink = std::make_shared<GuardedSink>();
  const StreamId id = subscriber_.add_stream(config_for(*publisher_, sink));
  await_subscriber();
  std::atomic<bool> done{false};
  std::thread traffic([&] {
    while (!done) publish(1);
  });
  EXPECT_TRUE(sink->await([&] { return sink->sequence().size() > 10; }));
  auto removing = std::async(std::launch::async, [&] { subscriber_.remove_stream(id); });
  auto closing = std::async(std::launch::async, [&] { subscriber_.close(); });
  subscriber_.close();
  sink->removed = true;
  removing.get();
  closing.get();
  done = true;
  traffic.join();
  EXPECT_FALSE(sink->called_after_removal);
  EXPECT_FALSE(subscriber_.stats(id));
  EXPECT_FALSE(subscriber_.remove_stream(id));
  EXPECT_THROW(subscribe(), InvalidArgument);
}

/// Does from within a sink what a sink must not.
class MeddlingSink : public RecordingSink {
 public:
  MeddlingSink(EventSubscriber& subscriber) : subscriber_(subscriber) {}
  void on_stored(std::uint32_t dp_rank, const BlockStored& event) override {
    try {
      subscriber_.remove_stream(1);
    } catch (const InvalidArgument&) {
      ++refused;
    }
    try {
      subscriber_.close();
    } catch (const InvalidArgument&) {
      ++refused;
    }
    RecordingSink::on_stored(dp_rank, event);
  }
  std::atomic<int> refused{0};

 private:
  EventSubscriber& subscriber_;
};

TEST_F(SubscriberTest, ASinkThatRemovesOrClosesIsRefused) {
  publish_with(Form::none);
  const auto sink = std::make_shared<MeddlingSink>(subscriber_);
  subscriber_.add_stream(config_for(*publisher_, sink));
  await_subscriber();
  publish(1);
  ASSERT_TRUE(sink->await_story("0"));
  EXPECT_EQ(sink->refused, 2);
}

TEST_F(SubscriberTest, RefusesUnusableArguments) {
  KvStreamConfig config;
  config.endpoint = "tcp://127.0.0.1:5557";
  EXPECT_THROW(subscriber_.add_stream(config), InvalidArgument) << "no sink";
  config.sink = sink_;
  for (const char* endpoint : {"", "127.0.0.1:5557", "inproc://x", "tcp://", "tcp://127.0.0.1",
                               "tcp://127.0.0.1:99999", "tcp://*:x", "tcp://300.0.0.1.*:1"}) {
    config.endpoint = endpoint;
    EXPECT_THROW(subscriber_.add_stream(config), InvalidArgument) << endpoint;
  }
  config.endpoint = "tcp://127.0.0.1:5557";
  for (const char* endpoint : {"nonsense", "tcp://*:5558"}) {
    config.replay_endpoint = endpoint;
    EXPECT_THROW(subscriber_.add_stream(config), InvalidArgument) << endpoint;
  }
  EXPECT_THROW(EventSubscriber({.max_message_bytes = 0}), InvalidArgument);
  EXPECT_THROW(EventSubscriber({.receive_queue = 0}), InvalidArgument);
  EXPECT_FALSE(subscriber_.remove_stream(77));
}

TEST_F(SubscriberTest, AnAddressInUseIsRefused) {
  publish_with(Form::none);
  KvStreamConfig config = config_for(*publisher_, sink_);
  config.bind = true;
  EXPECT_THROW(subscriber_.add_stream(config), InvalidArgument);
}

class RecordingLoadSink : public LoadSink {
 public:
  void on_load(std::uint32_t dp_rank, const LoadReport& report) override {
    rank = dp_rank;
    waiting = report.waiting;
    ++calls;
  }
  std::atomic<std::uint32_t> rank{0};
  std::atomic<std::uint32_t> waiting{0};
  std::atomic<int> calls{0};
};

TEST_F(SubscriberTest, PassesTheNewestLoadReport) {
  publish_with(Form::none);
  const auto sink = std::make_shared<RecordingLoadSink>();
  LoadStreamConfig config;
  config.endpoint = publisher_->endpoint();
  config.dp_rank = 2;
  config.sink = sink;
  const StreamId id = subscriber_.add_stream(config);
  await_subscriber();
  const auto send = [&](const std::string& json) {
    testing::Payload frame;
    for (const char letter : json) frame.push_back(static_cast<std::byte>(letter));
    publisher_->publish_frames({frame});
  };
  constexpr std::uint32_t kReports = 500;
  for (std::uint32_t i = 1; i <= kReports; ++i) {
    send(R"({"num_waiting_reqs": )" + std::to_string(i) + R"(, "kv_cache_usage": 0.5})");
  }
  ASSERT_TRUE(eventually([&] { return sink->waiting == kReports; }));
  EXPECT_EQ(sink->rank, 2U);
  ASSERT_TRUE(eventually([&] {
    const StreamStats stats = subscriber_.stats(id).value();
    return stats.batches + stats.superseded == kReports;
  }));
  send("not json");
  publisher_->publish_frames({{}, {}, {}});
  EXPECT_TRUE(eventually([&] {
    const StreamStats stats = subscriber_.stats(id).value();
    return stats.undecodable == 1 && stats.malformed_frames == 1;
  }));
  EXPECT_EQ(sink->waiting, kReports);
}

}  // namespace
}  // namespace kvroute
