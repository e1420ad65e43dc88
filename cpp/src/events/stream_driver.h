#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "events/kv_stream.h"
#include "events/load_stream.h"
#include "events/stream_socket.h"
#include "kvroute/events/subscriber.h"

namespace kvroute::detail {

/// One stream with its sockets, as the polling thread drives it.
class StreamDriver {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit StreamDriver(std::unique_ptr<StreamSocket> socket) : socket_(std::move(socket)) {}
  StreamDriver(const StreamDriver&) = delete;
  StreamDriver& operator=(const StreamDriver&) = delete;
  virtual ~StreamDriver() = default;

  /// Appends what to poll for before the next `serve`.
  virtual void list_sockets(std::vector<zmq::pollitem_t>& items) = 0;
  /// Takes a bounded amount of what has arrived, and does what is due by `now`.
  virtual void serve(Time now) = 0;
  /// When `serve` is due even if nothing arrives.
  [[nodiscard]] virtual Time deadline() const noexcept { return socket_->deadline(); }
  [[nodiscard]] virtual const StreamStats& stats() const noexcept = 0;

  [[nodiscard]] const std::string& endpoint() const noexcept { return socket_->endpoint(); }

 protected:
  [[nodiscard]] StreamSocket& socket() noexcept { return *socket_; }

 private:
  std::unique_ptr<StreamSocket> socket_;
};

class KvDriver final : public StreamDriver {
 public:
  KvDriver(std::unique_ptr<StreamSocket> socket, const KvStreamConfig& config,
           const SubscriberOptions& options, BatchDecoder& decoder, zmq::context_t& context);

  void list_sockets(std::vector<zmq::pollitem_t>& items) override;
  void serve(Time now) override;
  [[nodiscard]] Time deadline() const noexcept override {
    return std::min(StreamDriver::deadline(), stream_.deadline());
  }
  [[nodiscard]] const StreamStats& stats() const noexcept override { return stream_.stats(); }

 private:
  void serve_changes(Time now);
  void serve_live(Time now);
  void serve_replay(Time now);
  void keep_replay_socket();

  std::string replay_endpoint_;
  const SubscriberOptions& options_;
  zmq::context_t& context_;
  KvStream stream_;
  std::optional<ReplaySocket> replay_socket_;
  ReceivedMessage message_;
};

class LoadDriver final : public StreamDriver {
 public:
  LoadDriver(std::unique_ptr<StreamSocket> socket, const LoadStreamConfig& config,
             const SubscriberOptions& options);

  void list_sockets(std::vector<zmq::pollitem_t>& items) override;
  void serve(Time now) override;
  [[nodiscard]] const StreamStats& stats() const noexcept override { return stream_.stats(); }

 private:
  LoadStream stream_;
  ReceivedMessage message_;
  ReceivedMessage newest_;
};

}  // namespace kvroute::detail
