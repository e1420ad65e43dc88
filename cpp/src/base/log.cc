#include "kvroute/base/log.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>

namespace kvroute {
namespace {

constexpr std::size_t kCapacity = 1024;

class LogQueue {
 public:
  void push(LogLevel level, std::string message) {
    {
      const std::lock_guard lock(mutex_);
      if (records_.size() >= kCapacity) {
        ++lost_;
        return;
      }
      if (lost_ > 0) {
        message += " (" + std::to_string(lost_) + " earlier log records were lost)";
        lost_ = 0;
      }
      records_.push_back({level, std::move(message)});
    }
    filled_.notify_one();
  }

  [[nodiscard]] std::optional<LogRecord> pop(double timeout_seconds) {
    std::unique_lock lock(mutex_);
    filled_.wait_for(lock, std::chrono::duration<double>(timeout_seconds),
                     [this] { return closed_ || !records_.empty(); });
    if (records_.empty()) return std::nullopt;
    LogRecord record = std::move(records_.front());
    records_.pop_front();
    return record;
  }

  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    filled_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<LogRecord> records_;
  std::size_t lost_ = 0;
  bool closed_ = false;
};

// Never destroyed: event threads may still log while the process exits. A forked child gets a new
// one, since the old one's lock may be held, and its condition waited for, by threads that the
// child does not have. Made at the load, not by whoever logs first: a fork in the middle of that
// would leave it half made in the child for ever.
// Where there is no memory for it, the load ends the process.
// NOLINTBEGIN(bugprone-throwing-static-initialization): as just said
std::atomic<LogQueue*> g_queue{new LogQueue};
[[maybe_unused]] const int kRegistered =
    pthread_atfork(nullptr, nullptr, [] { g_queue = new LogQueue; });
// NOLINTEND(bugprone-throwing-static-initialization)

LogQueue& queue() { return *g_queue; }

}  // namespace

void log(LogLevel level, std::string message) { queue().push(level, std::move(message)); }

std::optional<LogRecord> next_log_record(double timeout_seconds) {
  return queue().pop(timeout_seconds);
}

void close_log() { queue().close(); }

}  // namespace kvroute
