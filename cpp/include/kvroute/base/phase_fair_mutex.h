#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>

namespace kvroute {

/// Many readers or one writer, where neither starves: a reader that sleeps gets in when the writer
/// at work ends, before any other writer (the same one included) may begin; a writer whose turn it
/// is lets no new reader in before it.
///
/// Writers come in no order. One that finds the lock free takes it at once, so that those at work
/// need not wait until one that sleeps has woken. The longest sleeper is woken first, by itself;
/// when others were quicker some times, the lock is kept for it.
///
/// Usable with std::shared_lock, std::unique_lock and std::scoped_lock. Not recursive in either
/// mode: a reader that asks again while a writer waits would wait for itself. To be destroyed only
/// after every call of it has returned.
///
/// The rule between readers and writers is that of Brandenburg and Anderson, "Spin-Based
/// Reader-Writer Synchronization for Multiprocessor Real-Time Systems" (2010). Who has to wait
/// spins for some microseconds, since most stays are shorter than falling asleep and waking; then
/// it sleeps. While a reader spins, writers may come before it. Who meets nobody costs one atomic
/// operation to enter and one to leave.
class PhaseFairMutex {
 public:
  PhaseFairMutex() = default;
  PhaseFairMutex(const PhaseFairMutex&) = delete;
  PhaseFairMutex& operator=(const PhaseFairMutex&) = delete;
  ~PhaseFairMutex() = default;

  void lock() {
    if (!try_lock()) lock_slowly();
  }

  /// Fails too while anybody sleeps.
  [[nodiscard]] bool try_lock() {
    std::uint64_t free = 0;
    return state_.compare_exchange_strong(free, kWriter, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }

  void unlock() {
    std::uint64_t state = kWriter;
    while ((state & kReadersSleep) == 0 && (state & (kWritersSleep | kWaking)) != kWritersSleep) {
      if (state_.compare_exchange_weak(state, state & ~kWriter, std::memory_order_release,
                                       std::memory_order_relaxed)) {
        return;
      }
    }
    unlock_slowly();
  }

  /// For who holds it alone, and goes on alone: whoever sleeps until then is let in first.
  void give_way();

  void lock_shared() {
    if (!try_lock_shared()) lock_shared_slowly();
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
    const std::uint64_t before = state_.fetch_sub(1, std::memory_order_release);
    if ((before & (kReaders | kWriterDrains)) == (kWriterDrains | 1)) wake_draining();
  }

 private:
  // The state: how many readers are inside, and what else is. All but kWriter change under
  // `mutex_`.
  static constexpr std::uint64_t kReaders = 0xffff'ffff;
  /// A writer works, or waits for the readers inside to leave.
  static constexpr std::uint64_t kWriter = std::uint64_t{1} << 63;
  static constexpr std::uint64_t kWriterDrains = std::uint64_t{1} << 62;  ///< and sleeps meanwhile
  static constexpr std::uint64_t kReadersSleep = std::uint64_t{1} << 61;
  static constexpr std::uint64_t kWritersSleep = std::uint64_t{1} << 60;
  static constexpr std::uint64_t kWaking = std::uint64_t{1} << 59;  ///< the first sleeping writer
  static constexpr std::uint64_t kKept = std::uint64_t{1} << 58;    ///< for that one

  struct Sleeper {
    std::condition_variable wake;
    bool woken = false;
  };

  void lock_slowly();
  void unlock_slowly();
  void lock_shared_slowly();
  void wake_draining();
  [[nodiscard]] bool claim(std::uint64_t but_for);
  void sleep_and_claim();
  void drain();

  std::atomic<std::uint64_t> state_{0};
  std::mutex mutex_;  // of what follows
  std::condition_variable readers_;
  std::condition_variable drained_;
  std::list<Sleeper> sleepers_;  // writers, the longest asleep first
  std::uint64_t sleeping_readers_ = 0;
  std::uint64_t phase_ = 0;  // counts admissions of sleeping readers
};

}  // namespace kvroute
