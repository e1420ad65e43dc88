#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>
#include <zmq.hpp>

#include "events/stream_driver.h"
#include "events/wake_signal.h"
#include "kvroute/events/subscriber.h"

namespace kvroute::detail {

/// The one thread that drives all streams, and how others talk to it.
///
/// Other threads leave commands and wait for their effect; the thread alone touches drivers (after
/// they are handed over) and calls sinks, always without the lock. What others may know of a stream
/// is published under the lock after each time that it was served.
class PollLoop {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit PollLoop(std::chrono::milliseconds idle_wait);
  PollLoop(const PollLoop&) = delete;
  PollLoop& operator=(const PollLoop&) = delete;
  ~PollLoop();

  /// \throws InvalidArgument when closed.
  void add(StreamId id, std::unique_ptr<StreamDriver> driver);
  /// Returns when the driver is gone. \throws InvalidArgument on the loop's own thread.
  bool remove(StreamId id);
  /// Returns when the thread has ended. \throws InvalidArgument on the loop's own thread.
  void close();

  [[nodiscard]] std::optional<StreamStats> stats(StreamId id) const;
  [[nodiscard]] std::optional<std::string> endpoint(StreamId id) const;

 private:
  struct Published {
    std::string endpoint;
    StreamStats stats;
    bool leaving = false;
  };
  struct Command {
    StreamId id;
    std::unique_ptr<StreamDriver> added;  ///< none: remove
  };
  /// A driver and where its sockets stand in the polled list.
  struct Active {
    std::unique_ptr<StreamDriver> driver;
    std::size_t first_item = 0;
    std::size_t end_item = 0;
  };

  void run() noexcept;
  /// Carries out what others want. False once the loop is to end.
  [[nodiscard]] bool obey();
  void wait();
  void serve_ready();
  void serve(StreamId id, StreamDriver& driver, Time now) noexcept;
  [[nodiscard]] bool is_ready(const Active& active, Time now) const noexcept;
  void refuse_own_thread(const char* what) const;

  const std::chrono::milliseconds idle_wait_;
  WakeSignal wake_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<StreamId, Published> published_;
  std::deque<Command> commands_;
  bool closing_ = false;
  bool ended_ = false;

  // The thread's own.
  std::map<StreamId, Active> active_;
  std::vector<zmq::pollitem_t> items_;

  std::mutex join_mutex_;
  std::thread thread_;
};

}  // namespace kvroute::detail
