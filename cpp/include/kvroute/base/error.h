#pragma once

#include <stdexcept>
#include <string>

#include "kvroute/base/phase.h"

namespace kvroute {

/// Root of what the core throws for a caller's mistake. Expected conditions of a stream (a
/// duplicate, an unknown parent, a gap) are values and counters, never exceptions.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An argument is malformed or out of range. The message names the field, what was expected and
/// what came. In Python: `InvalidArgument(KvRouteError, ValueError)`.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// A worker (or one of its ranks) is named that was never added, or has been removed.
/// In Python: `UnknownWorker(KvRouteError, KeyError)`.
class UnknownWorker : public Error {
 public:
  using Error::Error;
};

/// There is no target to choose: the router has no workers, or none that is eligible.
/// In Python: `NoEligibleWorker(KvRouteError, RuntimeError)`.
class NoEligibleWorker : public Error {
 public:
  explicit NoEligibleWorker(const std::string& message, Phase phase = Phase::kWhole)
      : Error(message), phase_(phase) {}

  /// What of a request nobody is there for.
  [[nodiscard]] Phase phase() const noexcept { return phase_; }

 private:
  Phase phase_;
};

/// All who would be eligible are overloaded; a later try may find room.
/// In Python: `Overloaded(NoEligibleWorker)`.
class Overloaded : public NoEligibleWorker {
 public:
  using NoEligibleWorker::NoEligibleWorker;
};

}  // namespace kvroute
