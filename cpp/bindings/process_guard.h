#pragma once

#include <memory>
#include <new>
#include <utility>

namespace kvroute::python {

/// How often this process has been forked from another since the module was loaded.
[[nodiscard]] unsigned fork_generation() noexcept;

/// Owns an object that has threads and locks, and so does not survive a fork: in the child its use
/// is refused, and it is left alone instead of being destroyed (its thread is not there to join,
/// its locks may be held for ever).
template <typename T>
class ProcessGuard {
 public:
  explicit ProcessGuard(std::shared_ptr<T> object)
      : object_(std::move(object)), generation_(fork_generation()) {}
  ProcessGuard(const ProcessGuard&) = default;
  ProcessGuard& operator=(const ProcessGuard&) = delete;
  ~ProcessGuard() {
    if (!is_home())
      (void)new (std::nothrow) std::shared_ptr<T>(std::move(object_));  // leaked on purpose
  }

  [[nodiscard]] bool is_home() const noexcept { return generation_ == fork_generation(); }
  [[nodiscard]] T& get() const noexcept { return *object_; }

  /// Lets go of the object; only where `is_home()`.
  void reset() noexcept { object_.reset(); }

 private:
  std::shared_ptr<T> object_;
  unsigned generation_;
};

}  // namespace kvroute::python
