#include "gil_release.h"

#include <atomic>
#include <chrono>
#include <thread>

namespace kvroute::python {
namespace {

std::atomic<int> g_returning{0};  // threads between the question below and the GIL
std::atomic<bool> g_exiting{false};
std::atomic<std::thread::id> g_exit_thread;

[[noreturn]] void park() {
  while (true) std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace

// The order matters: a thread is counted before it asks, so that one which has been let through is
// seen by `park_returning_threads`.
GilRelease::~GilRelease() {
  ++g_returning;
  if (g_exiting && std::this_thread::get_id() != g_exit_thread.load()) {
    --g_returning;
    park();
  }
  PyEval_RestoreThread(state_);
  --g_returning;
}

void park_returning_threads() {
  g_exit_thread = std::this_thread::get_id();
  g_exiting = true;
  PyThreadState* const state = PyEval_SaveThread();
  while (g_returning > 0) std::this_thread::yield();
  PyEval_RestoreThread(state);
}

}  // namespace kvroute::python
