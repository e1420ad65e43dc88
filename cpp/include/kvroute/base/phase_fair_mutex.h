#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace kvroute {

/// Many readers or one writer, where neither starves: a reader that waits gets in when the writer
/// at work ends, before any other writer (the same one included) may begin; a writer that waits
/// lets no new reader in before it. Writers take their turns in the order in which they came.
///
/// Usable with std::shared_lock, std::unique_lock and std::scoped_lock. Not recursive in either
/// mode: a reader that asks again while a writer waits would wait for itself. To be destroyed only
/// after every call of it has returned.
///
/// The rule is that of Brandenburg and Anderson, "Spin-Based Reader-Writer Synchronization for
/// Multiprocessor Real-Time Systems" (2010). Who has to wait spins for some microseconds, since
/// most stays are shorter than falling asleep and waking; then it sleeps. A reader counts as
/// waiting when it sleeps: until then a writer may come before it. A reader who meets no writer
/// costs one atomic operation to enter and one to leave.
class PhaseFairMutex {
 public:
  PhaseFairMutex() = default;
  PhaseFairMutex(const PhaseFairMutex&) = delete;
  PhaseFairMutex& operator=(const PhaseFairMutex&) = delete;
  ~PhaseFairMutex() = default;

  void lock() {
    std::unique_lock held(mutex_);
    const std::uint64_t ticket = next_ticket_++;
    state_.fetch_or(kWriter, std::memory_order_acquire);
    if (serving_ == ticket) {  // no other writer: what readers are inside leave soon
      held.unlock();
      if (spin([this] { return state_.load(std::memory_order_acquire) == kWriter; })) return;
      held.lock();
    }
    writers_.wait(held, [&] {
      return serving_ == ticket && state_.load(std::memory_order_acquire) == kWriter;
    });
  }

  [[nodiscard]] bool try_lock() {
    const std::scoped_lock held(mutex_);
    std::uint64_t free = 0;
    if (!state_.compare_exchange_strong(free, kWriter, std::memory_order_acquire)) return false;
    ++next_ticket_;
    return true;
  }

  void unlock() {
    const std::scoped_lock held(mutex_);
    ++serving_;
    const bool next = serving_ != next_ticket_;
    const std::uint64_t admitted = waiting_readers_;
    waiting_readers_ = 0;
    ++phase_;
    state_.store((next ? kWriter : 0) | admitted, std::memory_order_release);
    if (admitted > 0) {
      readers_.notify_all();
    } else if (next) {
      writers_.notify_all();
    }
  }

  void lock_shared() {
    if (spin([this] { return try_lock_shared(); })) return;
    std::unique_lock held(mutex_);
    if (try_lock_shared()) return;  // a writer comes and goes under `mutex_` only
    ++waiting_readers_;
    readers_.wait(held, [this, phase = phase_] { return phase_ != phase; });
  }

  [[nodiscard]] bool try_lock_shared() {
    std::uint64_t state = state_.load(std::memory_order_relaxed);
    while ((state & kWriter) == 0) {
      if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire,
                                       std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

  void unlock_shared() {
    if (state_.fetch_sub(1, std::memory_order_release) != (kWriter | 1)) return;
    const std::scoped_lock held(mutex_);
    writers_.notify_all();
  }

 private:
  static constexpr std::uint64_t kWriter = std::uint64_t{1} << 63;

  /// Asks `done` again and again for some microseconds. \return whether it was true.
  template <typename Done>
  [[nodiscard]] static bool spin(Done done) {
    constexpr int kTurns = 256;
    for (int turn = 0; turn < kTurns; ++turn) {
      if (done()) return true;
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#endif
    }
    return done();
  }

  // Readers inside, and kWriter while a writer works or waits; kWriter changes under `mutex_`.
  std::atomic<std::uint64_t> state_{0};
  std::mutex mutex_;
  std::condition_variable readers_;
  std::condition_variable writers_;
  std::uint64_t next_ticket_ = 0;
  std::uint64_t serving_ = 0;
  std::uint64_t waiting_readers_ = 0;
  std::uint64_t phase_ = 0;  // counts writers that have ended
};

}  // namespace kvroute
