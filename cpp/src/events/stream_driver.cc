#include "events/stream_driver.h"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace kvroute::detail {
namespace {

// What one stream may take of one round, so that the others get theirs.
constexpr int kMessagesPerRound = 64;
constexpr std::size_t kBytesPerRound = std::size_t{1} << 20;

void list(zmq::socket_t& socket, std::vector<zmq::pollitem_t>& items) {
  items.push_back({socket.handle(), 0, ZMQ_POLLIN, 0});
}

}  // namespace

KvDriver::KvDriver(std::unique_ptr<StreamSocket> socket, const KvStreamConfig& config,
                   const SubscriberOptions& options, BatchDecoder& decoder, zmq::context_t& context)
    : StreamDriver(std::move(socket)),
      replay_endpoint_(config.replay_endpoint),
      options_(options),
      context_(context),
      stream_(config, options, decoder) {}

void KvDriver::list_sockets(std::vector<zmq::pollitem_t>& items) {
  list(socket().changes(), items);
  if (!stream_.replaying()) list(socket().messages(), items);
  if (replay_socket_) list(replay_socket_->messages(), items);
}

void KvDriver::serve(Time now) {
  serve_changes(now);
  serve_replay(now);
  serve_live(now);
  stream_.on_time(now);
  keep_replay_socket();
  socket().keep_connected(now);
}

void KvDriver::serve_changes(Time now) {
  for (int i = 0; i < kMessagesPerRound; ++i) {
    const std::optional<StreamSocket::Change> change = socket().next_change(now);
    if (!change) return;
    if (*change == StreamSocket::Change::connected) {
      stream_.on_connected(now);
    } else {
      stream_.on_disconnected();
    }
  }
}

void KvDriver::serve_live(Time now) {
  std::size_t bytes = 0;
  for (int i = 0; i < kMessagesPerRound && bytes < kBytesPerRound; ++i) {
    if (stream_.replaying() || !message_.receive(socket().messages())) return;
    bytes += message_.bytes();
    if (const std::optional<SequencedPayload> batch = read_live_frames(message_.frames())) {
      stream_.on_live(*batch, now);
    } else {
      stream_.on_malformed_frames(now);
    }
  }
}

void KvDriver::serve_replay(Time now) {
  keep_replay_socket();
  if (!replay_socket_) return;
  std::size_t bytes = 0;
  for (int i = 0; i < kMessagesPerRound && bytes < kBytesPerRound; ++i) {
    if (!message_.receive(replay_socket_->messages())) return;
    bytes += message_.bytes();
    const ReplayReply reply = read_replay_frames(message_.frames());
    if (reply.kind == ReplayReply::Kind::batch) {
      stream_.on_replayed(reply.batch, now);
    } else if (reply.kind == ReplayReply::Kind::end) {
      stream_.on_replay_end(now);
    } else {
      stream_.on_malformed_frames(now);
    }
    // A new request, or none any more: what this socket still holds is of no use.
    keep_replay_socket();
    if (!replay_socket_) return;
  }
}

void KvDriver::keep_replay_socket() {
  if (!stream_.replaying()) replay_socket_.reset();
  const std::optional<std::uint64_t> from = stream_.take_replay_request();
  if (!from) return;
  replay_socket_.reset();
  try {
    replay_socket_.emplace(context_, replay_endpoint_, *from, options_);
  } catch (const zmq::error_t&) {
    // No socket: the replay ends as one that is never answered.
    replay_socket_.reset();
  }
}

LoadDriver::LoadDriver(std::unique_ptr<StreamSocket> socket, const LoadStreamConfig& config,
                       const SubscriberOptions& options)
    : StreamDriver(std::move(socket)), stream_(config, options) {}

void LoadDriver::list_sockets(std::vector<zmq::pollitem_t>& items) {
  list(socket().changes(), items);
  list(socket().messages(), items);
}

void LoadDriver::serve(Time now) {
  for (int i = 0; i < kMessagesPerRound; ++i) {
    const std::optional<StreamSocket::Change> change = socket().next_change(now);
    if (!change) break;
    if (*change == StreamSocket::Change::connected) {
      stream_.on_connected();
    } else {
      stream_.on_disconnected();
    }
  }
  socket().keep_connected(now);
  std::uint64_t taken = 0;
  for (int i = 0; i < kMessagesPerRound && message_.receive(socket().messages()); ++i) {
    const std::size_t frames = message_.frames().size();
    if (frames == 1 || frames == 2) {
      std::swap(message_, newest_);
      ++taken;
    } else {
      stream_.on_malformed_frames();
    }
  }
  if (taken == 0) return;
  const Frame json = newest_.frames().back();
  stream_.on_newest({reinterpret_cast<const char*>(json.data()), json.size()}, taken - 1, now);
}

}  // namespace kvroute::detail
