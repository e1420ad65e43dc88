#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <zmq.hpp>

#include "events/frames.h"
#include "kvroute/events/subscriber.h"

namespace kvroute::detail {

/// The frames of one received message; reused for the next. Frames beyond the fourth, which no
/// protocol of ours has, are dropped, but counted.
class ReceivedMessage {
 public:
  /// False if nothing is waiting.
  [[nodiscard]] bool receive(zmq::socket_t& socket);

  /// Views into this object, until it is received into or moved. Empty for a message of too many
  /// frames.
  [[nodiscard]] std::span<const Frame> frames() noexcept;
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  static constexpr std::size_t kMaxFrames = 4;
  std::array<zmq::message_t, kMaxFrames> messages_;
  zmq::message_t surplus_;
  std::array<Frame, kMaxFrames> views_;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
};

/// The SUB socket of one stream and the monitor that tells its connections. Belongs to one thread
/// at a time.
///
/// libzmq connects again by itself after a connection that broke, but never after one that it
/// dropped for a violation of the protocol, such as a message over the limit: then this does.
class StreamSocket {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class Change : std::uint8_t { connected, disconnected };

  /// Binds or connects. `name` must be unique in the context.
  /// \throws InvalidArgument if the endpoint is unusable; Error if the system has no socket left.
  StreamSocket(zmq::context_t& context, const std::string& endpoint, bool bind,
               const std::string& topic, const SubscriberOptions& options, StreamId name);
  StreamSocket(const StreamSocket&) = delete;
  StreamSocket& operator=(const StreamSocket&) = delete;
  ~StreamSocket();

  [[nodiscard]] const std::string& endpoint() const noexcept { return endpoint_; }
  [[nodiscard]] zmq::socket_t& messages() noexcept { return messages_; }
  [[nodiscard]] zmq::socket_t& changes() noexcept { return changes_; }

  /// The next change of the connection, if any is waiting.
  [[nodiscard]] std::optional<Change> next_change(Time now);

  /// Connects again where libzmq has given up. To be called by `deadline()`.
  void keep_connected(Time now);
  [[nodiscard]] Time deadline() const noexcept { return reconnect_at_.value_or(Time::max()); }

 private:
  zmq::socket_t messages_;
  zmq::socket_t changes_;
  std::string endpoint_;
  bool binds_ = false;
  std::optional<Time> reconnect_at_;  ///< unless libzmq tells that it tries
};

/// The DEALER socket of one replay request.
class ReplaySocket {
 public:
  /// Connects and asks for what the publisher still keeps from batch `from` on.
  /// \throws zmq::error_t
  ReplaySocket(zmq::context_t& context, const std::string& endpoint, std::uint64_t from,
               const SubscriberOptions& options);

  [[nodiscard]] zmq::socket_t& messages() noexcept { return messages_; }

 private:
  zmq::socket_t messages_;
};

/// \throws InvalidArgument unless `endpoint` can be connected to (`field` names it).
void require_connectable(std::string_view field, std::string_view endpoint);

}  // namespace kvroute::detail
