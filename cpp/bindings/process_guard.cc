#include "process_guard.h"

#include <pthread.h>

#include <atomic>

namespace kvroute::python {
namespace {

std::atomic<unsigned> g_generation{0};

const int kRegistered = pthread_atfork(nullptr, nullptr, [] { ++g_generation; });

}  // namespace

unsigned fork_generation() noexcept {
  (void)kRegistered;
  return g_generation.load(std::memory_order_relaxed);
}

}  // namespace kvroute::python
