#include "kvroute/events/subscriber.h"

#include <atomic>
#include <utility>
#include <zmq.hpp>

#include "events/poll_loop.h"
#include "events/stream_driver.h"
#include "events/stream_socket.h"
#include "kvroute/base/error.h"

namespace kvroute {
namespace {

using detail::KvDriver;
using detail::LoadDriver;
using detail::StreamSocket;

constexpr int kMaxSockets = 16384;
constexpr std::chrono::milliseconds kIdleWait{1000};

[[nodiscard]] SubscriberOptions checked(SubscriberOptions options) {
  if (options.max_message_bytes == 0) {
    throw InvalidArgument("max_message_bytes: expected a positive number, got 0");
  }
  if (options.receive_queue <= 0) {
    throw InvalidArgument("receive_queue: expected a positive number, got " +
                          std::to_string(options.receive_queue));
  }
  return options;
}

template <typename Config>
void require_sink(const Config& config) {
  if (!config.sink) throw InvalidArgument("sink: expected one, got none");
}

}  // namespace

class EventSubscriber::Impl {
 public:
  explicit Impl(SubscriberOptions options)
      : options_(checked(options)), decoder_(options_.max_message_bytes), loop_(kIdleWait) {
    context_.set(zmq::ctxopt::max_sockets, kMaxSockets);
  }

  StreamId add(const KvStreamConfig& config) {
    require_sink(config);
    if (!config.replay_endpoint.empty()) {
      detail::require_connectable("replay_endpoint", config.replay_endpoint);
    }
    const StreamId id = next_id_++;
    loop_.add(id,
              std::make_unique<KvDriver>(open(config, id), config, options_, decoder_, context_));
    return id;
  }

  StreamId add(const LoadStreamConfig& config) {
    require_sink(config);
    const StreamId id = next_id_++;
    loop_.add(id, std::make_unique<LoadDriver>(open(config, id), config, options_));
    return id;
  }

  [[nodiscard]] detail::PollLoop& loop() noexcept { return loop_; }
  [[nodiscard]] const detail::PollLoop& loop() const noexcept { return loop_; }

 private:
  template <typename Config>
  [[nodiscard]] std::unique_ptr<StreamSocket> open(const Config& config, StreamId id) {
    return std::make_unique<StreamSocket>(context_, config.endpoint, config.bind, config.topic,
                                          options_, id);
  }

  const SubscriberOptions options_;
  zmq::context_t context_;
  BatchDecoder decoder_;
  std::atomic<StreamId> next_id_{1};
  detail::PollLoop loop_;  // last: its thread uses all of the above
};

EventSubscriber::EventSubscriber(SubscriberOptions options)
    : impl_(std::make_unique<Impl>(options)) {}

EventSubscriber::~EventSubscriber() = default;

StreamId EventSubscriber::add_stream(const KvStreamConfig& config) { return impl_->add(config); }
StreamId EventSubscriber::add_stream(const LoadStreamConfig& config) { return impl_->add(config); }

bool EventSubscriber::remove_stream(StreamId id) { return impl_->loop().remove(id); }

void EventSubscriber::close() { impl_->loop().close(); }

std::optional<StreamStats> EventSubscriber::stats(StreamId id) const {
  return impl_->loop().stats(id);
}

std::optional<std::string> EventSubscriber::endpoint(StreamId id) const {
  return impl_->loop().endpoint(id);
}

}  // namespace kvroute
