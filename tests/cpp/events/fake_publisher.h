#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "events/frames.h"
#include "payloads.h"

namespace kvroute::testing {

/// An engine's publisher: a PUB socket for batches (an XPUB, so that a test can await its
/// subscriber) and a ROUTER that replays those it keeps. Publishing is for one thread.
class FakePublisher {
 public:
  enum class ReplayForm { none, without_topic, with_topic, silent, without_end };
  struct Options {
    std::string endpoint = "tcp://127.0.0.1:*";
    std::string replay_endpoint = "tcp://127.0.0.1:*";
    ReplayForm replay = ReplayForm::with_topic;
    bool connects = false;  ///< to a subscriber that binds
    std::string topic{};
  };

  explicit FakePublisher(Options options)
      : options_(std::move(options)),
        messages_(context_, zmq::socket_type::xpub),
        replay_(context_, zmq::socket_type::router) {
    messages_.set(zmq::sockopt::linger, 0);
    messages_.set(zmq::sockopt::sndhwm, 0);
    replay_.set(zmq::sockopt::linger, 0);
    replay_.set(zmq::sockopt::sndhwm, 0);
    if (options_.connects) {
      messages_.connect(options_.endpoint);
    } else {
      bind(messages_, options_.endpoint);
      options_.endpoint = messages_.get(zmq::sockopt::last_endpoint);
    }
    if (options_.replay == ReplayForm::none) {
      options_.replay_endpoint.clear();
      return;
    }
    bind(replay_, options_.replay_endpoint);
    options_.replay_endpoint = replay_.get(zmq::sockopt::last_endpoint);
    server_ = std::thread([this] { serve(); });
  }
  FakePublisher(const FakePublisher&) = delete;
  FakePublisher& operator=(const FakePublisher&) = delete;
  ~FakePublisher() {
    stopping_ = true;
    if (server_.joinable()) server_.join();
  }

  [[nodiscard]] const std::string& endpoint() const { return options_.endpoint; }
  [[nodiscard]] const std::string& replay_endpoint() const { return options_.replay_endpoint; }

  /// Waits until someone has subscribed. False after ten seconds.
  [[nodiscard]] bool await_subscriber() {
    std::array<zmq::pollitem_t, 1> items{{{messages_.handle(), 0, ZMQ_POLLIN, 0}}};
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < end) {
      zmq::poll(items.data(), items.size(), std::chrono::milliseconds(100));
      zmq::message_t message;
      while (messages_.recv(message, zmq::recv_flags::dontwait)) {
        if (message.size() > 0 && *message.data<char>() == 1) return true;
      }
    }
    return false;
  }

  /// Publishes the next batch, and keeps it for replays.
  std::uint64_t publish(Payload payload) {
    const std::uint64_t seq = keep(std::move(payload));
    send(seq, batch(seq));
    return seq;
  }
  /// The same, but it is lost on its way.
  std::uint64_t lose(Payload payload) { return keep(std::move(payload)); }
  /// Frames that are no batch.
  void publish_frames(const std::vector<Payload>& frames) {
    for (std::size_t i = 0; i < frames.size(); ++i) {
      const bool more = i + 1 < frames.size();
      messages_.send(zmq::buffer(frames[i].data(), frames[i].size()),
                     more ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }
  void forget_before(std::uint64_t seq) {
    const std::lock_guard lock(mutex_);
    kept_.erase(kept_.begin(), kept_.lower_bound(seq));
  }

  /// First batches that replays were asked for.
  [[nodiscard]] std::vector<std::uint64_t> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  // A port that was just left may take a moment to be free again.
  static void bind(zmq::socket_t& socket, const std::string& endpoint) {
    for (int attempt = 0;; ++attempt) {
      try {
        socket.bind(endpoint);
        return;
      } catch (const zmq::error_t&) {
        if (attempt == 200) throw;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    }
  }

  std::uint64_t keep(Payload payload) {
    const std::lock_guard lock(mutex_);
    kept_[next_] = std::move(payload);
    return next_++;
  }
  [[nodiscard]] Payload batch(std::uint64_t seq) const {
    const std::lock_guard lock(mutex_);
    return kept_.at(seq);
  }
  static Payload number(std::uint64_t seq) {
    std::array<std::byte, 8> bytes{};
    detail::write_sequence(seq, bytes);
    return {bytes.begin(), bytes.end()};
  }
  void send(std::uint64_t seq, const Payload& payload) {
    Payload topic;
    for (const char letter : options_.topic) topic.push_back(static_cast<std::byte>(letter));
    publish_frames({topic, number(seq), payload});
  }

  void serve() {
    std::array<zmq::pollitem_t, 1> items{{{replay_.handle(), 0, ZMQ_POLLIN, 0}}};
    while (!stopping_) {
      zmq::poll(items.data(), items.size(), std::chrono::milliseconds(20));
      std::vector<zmq::message_t> request;
      if (receive(request)) answer(request);
    }
  }
  [[nodiscard]] bool receive(std::vector<zmq::message_t>& frames) {
    do {
      frames.emplace_back();
      if (!replay_.recv(frames.back(), zmq::recv_flags::dontwait)) return false;
    } while (frames.back().more());
    return true;
  }
  void answer(std::vector<zmq::message_t>& request) {
    // As engines do: exactly identity, delimiter and start, else not a word.
    if (request.size() != 3 || request[1].size() != 0 || request[2].size() != 8) return;
    std::uint64_t from = 0;
    for (std::size_t i = 0; i < 8; ++i) from = (from << 8) | request[2].data<unsigned char>()[i];
    std::map<std::uint64_t, Payload> kept;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(from);
      kept.insert(kept_.lower_bound(from), kept_.end());
    }
    if (options_.replay == ReplayForm::silent) return;
    for (const auto& [seq, payload] : kept) reply(request[0], number(seq), payload);
    if (options_.replay == ReplayForm::without_end) return;
    if (options_.replay == ReplayForm::with_topic) {
      reply(request[0], {}, number(UINT64_MAX));
    } else {
      reply(request[0], number(UINT64_MAX), {});
    }
  }
  void reply(const zmq::message_t& identity, const Payload& first, const Payload& second) {
    std::vector<Payload> frames{{}, first, second};
    if (options_.replay == ReplayForm::with_topic) frames.insert(frames.begin() + 1, Payload{});
    replay_.send(zmq::buffer(identity.data(), identity.size()), zmq::send_flags::sndmore);
    for (std::size_t i = 0; i < frames.size(); ++i) {
      replay_.send(zmq::buffer(frames[i].data(), frames[i].size()),
                   i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }

  Options options_;
  zmq::context_t context_;
  zmq::socket_t messages_;
  zmq::socket_t replay_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, Payload> kept_;
  std::uint64_t next_ = 0;
  std::vector<std::uint64_t> requests_;
  std::atomic<bool> stopping_{false};
  std::thread server_;
};

}  // namespace kvroute::testing
