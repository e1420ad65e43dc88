#include "kvroute/base/phase_fair_mutex.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

namespace kvroute {
namespace {

/// A thread that will sleep in the kernel before it has done its work.
class Sleeper {
 public:
  template <typename Work>
  explicit Sleeper(Work work)
      : thread_([this, work] {
          id_ = ::gettid();
          work();
          is_done_ = true;
        }) {}
  ~Sleeper() { thread_.join(); }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

  /// Returns once the thread sleeps, or has done its work.
  void wait_until_asleep() const {
    while (!is_done_ && (id_ == 0 || !is_asleep())) std::this_thread::yield();
  }

  [[nodiscard]] pthread_t handle() { return thread_.native_handle(); }

 private:
  [[nodiscard]] bool is_asleep() const {
    std::ifstream file("/proc/self/task/" + std::to_string(id_) + "/stat");
    std::string state;
    std::getline(file, state, ')');  // before it: the id and the name
    file >> state;
    return state == "S";
  }

  std::atomic<int> id_{0};
  std::atomic<bool> is_done_{false};
  std::thread thread_;
};

/// Keeps a thread, asleep or not, from going on while this lives: it stays in a signal's handler.
class Arrest {
 public:
  explicit Arrest(pthread_t thread) : before_(std::signal(SIGUSR1, stay)) {
    holds_ = true;
    is_held_ = false;
    pthread_kill(thread, SIGUSR1);
    while (!is_held_) std::this_thread::yield();
  }
  ~Arrest() {
    holds_ = false;
    while (is_held_) std::this_thread::yield();
    std::signal(SIGUSR1, before_);
  }
  Arrest(const Arrest&) = delete;
  Arrest& operator=(const Arrest&) = delete;

 private:
  static void stay(int /*signal*/) {
    is_held_ = true;
    while (holds_) ::sched_yield();
    is_held_ = false;
  }

  static inline std::atomic<bool> holds_{false};
  static inline std::atomic<bool> is_held_{false};
  void (*before_)(int);
};

TEST(PhaseFairMutex, ExcludesAsASharedMutexDoes) {
  PhaseFairMutex mutex;
  EXPECT_TRUE(mutex.try_lock_shared());
  EXPECT_TRUE(mutex.try_lock_shared()) << "readers share";
  EXPECT_FALSE(mutex.try_lock());
  mutex.unlock_shared();
  mutex.unlock_shared();
  EXPECT_TRUE(mutex.try_lock());
  EXPECT_FALSE(mutex.try_lock());
  EXPECT_FALSE(mutex.try_lock_shared());
  mutex.unlock();
  const std::shared_lock lock(mutex);
  EXPECT_TRUE(lock.owns_lock());
}

TEST(PhaseFairMutex, AReaderThatSleepsPrecedesTheWriterThatComesBackAtOnce) {
  PhaseFairMutex mutex;
  for (int round = 0; round < 50; ++round) {
    mutex.lock();
    std::atomic<bool> was_in{false};
    Sleeper reader([&] {
      const std::shared_lock lock(mutex);
      was_in = true;
    });
    reader.wait_until_asleep();
    mutex.unlock();
    mutex.lock();
    EXPECT_TRUE(was_in) << "round " << round;
    mutex.unlock();
  }
}

TEST(PhaseFairMutex, AWriterTakesTheFreeLockBeforeOneThatSleeps) {
  PhaseFairMutex mutex;
  for (int round = 0; round < 50; ++round) {
    mutex.lock();
    std::atomic<bool> was_in{false};
    Sleeper writer([&] {
      const std::scoped_lock lock(mutex);
      was_in = true;
    });
    writer.wait_until_asleep();
    const Arrest slow(writer.handle());
    mutex.unlock();
    mutex.lock();
    EXPECT_FALSE(was_in) << "round " << round;
    mutex.unlock();
  }
}

TEST(PhaseFairMutex, AWriterThatSleepsIsOvertakenSomeTimesOnly) {
  PhaseFairMutex mutex;
  for (int round = 0; round < 50; ++round) {
    mutex.lock();
    std::atomic<bool> was_in{false};
    Sleeper writer([&] {
      const std::scoped_lock lock(mutex);
      was_in = true;
    });
    for (int turn = 0; !was_in && turn < 16; ++turn) {
      writer.wait_until_asleep();
      mutex.unlock();  // wakes it, and it finds the lock taken again
      mutex.lock();
    }
    EXPECT_TRUE(was_in) << "round " << round;
    mutex.unlock();
  }
}

TEST(PhaseFairMutex, WhoGivesWayLetsAWriterThatSleepsInFirst) {
  PhaseFairMutex mutex;
  for (int round = 0; round < 50; ++round) {
    mutex.lock();
    mutex.give_way();  // to nobody
    std::atomic<bool> was_in{false};
    Sleeper writer([&] {
      const std::scoped_lock lock(mutex);
      was_in = true;
    });
    writer.wait_until_asleep();
    mutex.give_way();
    EXPECT_TRUE(was_in) << "round " << round;
    EXPECT_FALSE(mutex.try_lock());
    mutex.unlock();
  }
}

TEST(PhaseFairMutex, AWriterThatWaitsKeepsNewReadersOut) {
  PhaseFairMutex mutex;
  mutex.lock_shared();
  std::atomic<bool> wrote{false};
  std::thread writer([&] {
    const std::scoped_lock lock(mutex);
    wrote = true;
  });
  while (mutex.try_lock_shared()) {  // until the writer stands in the queue
    mutex.unlock_shared();
    std::this_thread::yield();
  }
  EXPECT_FALSE(wrote);
  std::thread late([&] {
    const std::shared_lock lock(mutex);
    EXPECT_TRUE(wrote);
  });
  mutex.unlock_shared();
  late.join();
  writer.join();
}

TEST(PhaseFairMutex, ReadersAndWritersSeeWholeChanges) {
  PhaseFairMutex mutex;
  std::uint64_t left = 0;
  std::uint64_t right = 0;
  std::atomic<int> torn{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 3'000; ++turn) {
        const std::scoped_lock lock(mutex);
        ++left;
        ++right;
      }
    });
    threads.emplace_back([&] {
      for (int turn = 0; turn < 3'000; ++turn) {
        const std::shared_lock lock(mutex);
        if (left != right) ++torn;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(left, 9'000U);
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

}  // namespace
}  // namespace kvroute
