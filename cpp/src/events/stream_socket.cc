#include "events/stream_socket.h"

#include <charconv>
#include <cstring>
#include <system_error>

#include "kvroute/base/error.h"

namespace kvroute::detail {
namespace {

constexpr int kMaxReconnectMs = 2000;
constexpr std::chrono::milliseconds kReconnectDelay{500};

void set_bounds(zmq::socket_t& socket, const SubscriberOptions& options) {
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::rcvhwm, options.receive_queue);
  socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(options.max_message_bytes));
  // Not ZMTP heartbeats: some publishers' libraries do not answer them.
  socket.set(zmq::sockopt::tcp_keepalive, 1);
  socket.set(zmq::sockopt::tcp_keepalive_idle, 30);
  socket.set(zmq::sockopt::tcp_keepalive_intvl, 10);
  socket.set(zmq::sockopt::tcp_keepalive_cnt, 3);
  socket.set(zmq::sockopt::reconnect_ivl_max, kMaxReconnectMs);
}

void enable_ipv6_for(zmq::socket_t& socket, std::string_view endpoint) {
  if (endpoint.find('[') != std::string_view::npos) socket.set(zmq::sockopt::ipv6, true);
}

/// Whether a tcp endpoint ends in a port, or in what lets the system choose one.
[[nodiscard]] bool has_port(std::string_view endpoint) {
  const std::string_view port = endpoint.substr(endpoint.rfind(':') + 1);
  if (port == "*") return true;
  std::uint16_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  return error == std::errc{} && end == port.data() + port.size();
}

void require_transport(std::string_view field, std::string_view endpoint) {
  if (endpoint.starts_with("ipc://")) return;
  if (endpoint.starts_with("tcp://") && has_port(endpoint)) return;
  throw InvalidArgument(std::string(field) + ": expected tcp://host:port or ipc://path, got \"" +
                        std::string(endpoint) + "\"");
}

[[nodiscard]] std::string monitor_address(StreamId name) {
  return "inproc://stream-" + std::to_string(name);
}

}  // namespace

void require_connectable(std::string_view field, std::string_view endpoint) {
  require_transport(field, endpoint);
  if (endpoint.find('*') == std::string_view::npos) return;
  throw InvalidArgument(std::string(field) + ": expected an endpoint to connect to, got \"" +
                        std::string(endpoint) + "\"");
}

bool ReceivedMessage::receive(zmq::socket_t& socket) {
  count_ = 0;
  bytes_ = 0;
  bool more = true;
  while (more) {
    zmq::message_t& message = count_ < kMaxFrames ? messages_[count_] : surplus_;
    if (!socket.recv(message, zmq::recv_flags::dontwait)) return false;
    more = message.more();
    bytes_ += message.size();
    ++count_;
  }
  return true;
}

std::span<const Frame> ReceivedMessage::frames() noexcept {
  if (count_ > kMaxFrames) return {};
  for (std::size_t i = 0; i < count_; ++i) {
    views_[i] = {static_cast<const std::byte*>(messages_[i].data()), messages_[i].size()};
  }
  return {views_.data(), count_};
}

StreamSocket::StreamSocket(zmq::context_t& context, const std::string& endpoint, bool bind,
                           const std::string& topic, const SubscriberOptions& options,
                           StreamId name)
    : binds_(bind || endpoint.find('*') != std::string::npos) {
  require_transport("endpoint", endpoint);
  try {
    messages_ = zmq::socket_t(context, zmq::socket_type::sub);
    changes_ = zmq::socket_t(context, zmq::socket_type::pair);
    set_bounds(messages_, options);
    changes_.set(zmq::sockopt::linger, 0);
    enable_ipv6_for(messages_, endpoint);
    messages_.set(zmq::sockopt::subscribe, topic);
    constexpr int kEvents = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |
                            ZMQ_EVENT_CONNECT_DELAYED | ZMQ_EVENT_CONNECT_RETRIED;
    const std::string address = monitor_address(name);
    if (zmq_socket_monitor(messages_.handle(), address.c_str(), kEvents) != 0) {
      throw zmq::error_t();
    }
    changes_.connect(address);
  } catch (const zmq::error_t& error) {
    throw Error("no ZMQ socket for \"" + endpoint + "\": " + error.what());
  }
  try {
    if (binds_) {
      messages_.bind(endpoint);
    } else {
      messages_.connect(endpoint);
    }
    endpoint_ = messages_.get(zmq::sockopt::last_endpoint);
  } catch (const zmq::error_t& error) {
    throw InvalidArgument("endpoint: \"" + endpoint + "\" cannot be used: " + error.what());
  }
}

StreamSocket::~StreamSocket() {
  if (messages_.handle() != nullptr) zmq_socket_monitor(messages_.handle(), nullptr, 0);
}

std::optional<StreamSocket::Change> StreamSocket::next_change(Time now) {
  zmq::message_t event;
  zmq::message_t address;
  while (changes_.recv(event, zmq::recv_flags::dontwait)) {
    if (event.more()) static_cast<void>(changes_.recv(address, zmq::recv_flags::dontwait));
    std::uint16_t number = 0;
    if (event.size() >= sizeof(number)) std::memcpy(&number, event.data(), sizeof(number));
    reconnect_at_.reset();
    if (number == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) return Change::connected;
    if (number == ZMQ_EVENT_DISCONNECTED) {
      if (!binds_) reconnect_at_ = now + kReconnectDelay;
      return Change::disconnected;
    }
  }
  return std::nullopt;
}

void StreamSocket::keep_connected(Time now) {
  if (now < deadline()) return;
  reconnect_at_ = now + kReconnectDelay;
  // Fails where nothing is left to disconnect.
  static_cast<void>(zmq_disconnect(messages_.handle(), endpoint_.c_str()));
  messages_.connect(endpoint_);
}

ReplaySocket::ReplaySocket(zmq::context_t& context, const std::string& endpoint, std::uint64_t from,
                           const SubscriberOptions& options)
    : messages_(context, zmq::socket_type::dealer) {
  set_bounds(messages_, options);
  enable_ipv6_for(messages_, endpoint);
  messages_.connect(endpoint);
  std::array<std::byte, sizeof(from)> start{};
  write_sequence(from, start);
  messages_.send(zmq::message_t(), zmq::send_flags::sndmore | zmq::send_flags::dontwait);
  messages_.send(zmq::buffer(start), zmq::send_flags::dontwait);
}

}  // namespace kvroute::detail
