#include "kvroute/base/phase_fair_mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

namespace kvroute {
namespace {

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

TEST(PhaseFairMutex, AReaderThatWaitsPrecedesTheWriterThatComesBack) {
  PhaseFairMutex mutex;
  for (int round = 0; round < 50; ++round) {
    mutex.lock();
    std::atomic<bool> asks{false};
    std::atomic<bool> was_in{false};
    std::thread reader([&] {
      asks = true;
      const std::shared_lock lock(mutex);
      was_in = true;
    });
    while (!asks) std::this_thread::yield();
    // One that comes back at once again and again overtakes nobody: a handful of turns is enough
    // for the reader to have stood in the queue, and then to have been let in.
    int turns = 0;
    while (!was_in) {
      mutex.unlock();
      mutex.lock();
      std::this_thread::yield();
      ASSERT_LT(++turns, 100'000);
    }
    mutex.unlock();
    reader.join();
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
