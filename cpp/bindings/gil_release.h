#pragma once

#include "pybind.h"

namespace kvroute::python {

/// Gives up the GIL for as long as it lives.
///
/// Unlike pybind11's, it is safe at the interpreter's exit: before CPython 3.14 a daemon thread
/// that takes the GIL back then is ended by unwinding its stack, which aborts the process where
/// that meets a destructor. Such a thread is parked here instead, and ends with the process.
class GilRelease {
 public:
  GilRelease() noexcept : state_(PyEval_SaveThread()) {}
  ~GilRelease();
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

/// Begins the parking of all threads but the caller's, and waits until none is on its way back.
/// Registered with `atexit`.
void park_returning_threads();

}  // namespace kvroute::python
