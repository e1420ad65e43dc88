#include "kvroute/base/phase_fair_mutex.h"

namespace kvroute {
namespace {

/// Asks `done` again and again for some microseconds. \return whether it was true.
template <typename Done>
[[nodiscard]] bool spin(Done done) {
  constexpr int kTurns = 256;
  for (int turn = 0; turn < kTurns; ++turn) {
    if (done()) return true;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }
  return done();
}

}  // namespace

void PhaseFairMutex::lock_slowly() {
  if (!spin([this] { return claim(kWriter | kKept); })) sleep_and_claim();
  drain();
}

void PhaseFairMutex::give_way() {
  unlock();
  if ((state_.load(std::memory_order_relaxed) & kWritersSleep) == 0) return lock();
  sleep_and_claim();
  drain();
}

/// Makes the next turn this writer's, unless the state has one of `but_for`.
bool PhaseFairMutex::claim(std::uint64_t but_for) {
  std::uint64_t state = state_.load(std::memory_order_relaxed);
  while ((state & but_for) == 0) {
    if (state_.compare_exchange_weak(state, (state | kWriter) & ~kKept, std::memory_order_acquire,
                                     std::memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

// No wakening is lost: whoever has the lock while a writer sleeps and is not being woken cannot
// leave it without `mutex_`. The first to sleep is the only one that is woken, and keeps its place
// until it has had its turn.
void PhaseFairMutex::sleep_and_claim() {
  constexpr int kMostLost = 8;
  std::unique_lock held(mutex_);
  const auto self = sleepers_.emplace(sleepers_.end());
  state_.fetch_or(kWritersSleep, std::memory_order_relaxed);
  for (int lost = 0; self != sleepers_.begin() || !claim(kWriter); ++lost) {
    if (lost >= kMostLost) state_.fetch_or(kKept, std::memory_order_relaxed);
    self->wake.wait(held, [&] { return self->woken; });
    self->woken = false;
    state_.fetch_and(~kWaking, std::memory_order_relaxed);
  }
  sleepers_.erase(self);
  if (sleepers_.empty()) state_.fetch_and(~kWritersSleep, std::memory_order_relaxed);
}

/// Waits until the readers inside have left; no new ones come.
void PhaseFairMutex::drain() {
  const auto is_drained = [this] {
    return (state_.load(std::memory_order_acquire) & kReaders) == 0;
  };
  if (spin(is_drained)) return;
  std::unique_lock held(mutex_);
  state_.fetch_or(kWriterDrains, std::memory_order_relaxed);
  drained_.wait(held, is_drained);
  state_.fetch_and(~kWriterDrains, std::memory_order_relaxed);
}

void PhaseFairMutex::wake_draining() {
  const std::scoped_lock held(mutex_);
  drained_.notify_one();
}

// Nobody else changes the state meanwhile: no reader is inside, and a sleeper needs `mutex_`.
void PhaseFairMutex::unlock_slowly() {
  const std::scoped_lock held(mutex_);
  std::uint64_t state = state_.load(std::memory_order_relaxed) & ~(kWriter | kReadersSleep);
  const bool wakes = !sleepers_.empty() && (state & kWaking) == 0;
  if (wakes) state |= kWaking;
  if (sleeping_readers_ > 0) ++phase_;
  state_.store(state | sleeping_readers_, std::memory_order_release);
  if (sleeping_readers_ > 0) readers_.notify_all();
  sleeping_readers_ = 0;
  if (!wakes) return;
  sleepers_.front().woken = true;
  sleepers_.front().wake.notify_one();
}

// A writer that has the lock once kReadersSleep is set cannot leave it without `mutex_`.
void PhaseFairMutex::lock_shared_slowly() {
  if (spin([this] { return try_lock_shared(); })) return;
  std::unique_lock held(mutex_);
  state_.fetch_or(kReadersSleep, std::memory_order_relaxed);
  if (try_lock_shared()) {
    if (sleeping_readers_ == 0) state_.fetch_and(~kReadersSleep, std::memory_order_relaxed);
    return;
  }
  ++sleeping_readers_;
  readers_.wait(held, [this, phase = phase_] { return phase_ != phase; });
}

}  // namespace kvroute
