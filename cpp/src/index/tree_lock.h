#pragma once

#include <atomic>
#include <mutex>
#include <shared_mutex>

namespace kvroute::detail {

/// Many readers or one writer, where a writer that waits is not overtaken for ever: the system's
/// lock prefers readers, so new readers queue at a gate while a writer stands before it.
class TreeLock {
 public:
  void lock() {
    writer_waits_.store(true, std::memory_order_relaxed);
    gate_.lock();
    readers_.lock();
    writer_waits_.store(false, std::memory_order_relaxed);
  }
  void unlock() {
    readers_.unlock();
    gate_.unlock();
  }
  void lock_shared() {
    if (writer_waits_.load(std::memory_order_relaxed)) {
      const std::scoped_lock turn(gate_);
    }
    readers_.lock_shared();
  }
  void unlock_shared() { readers_.unlock_shared(); }

 private:
  std::shared_mutex readers_;
  std::mutex gate_;
  std::atomic<bool> writer_waits_{false};
};

}  // namespace kvroute::detail
