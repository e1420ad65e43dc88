#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace kvroute::detail {

/// Wakes a thread that polls `fd()`. Thread-safe; signals before a `drain` count once.
class WakeSignal {
 public:
  WakeSignal() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  }
  WakeSignal(const WakeSignal&) = delete;
  WakeSignal& operator=(const WakeSignal&) = delete;
  ~WakeSignal() { close(fd_); }

  [[nodiscard]] int fd() const noexcept { return fd_; }

  void raise() noexcept {
    const std::uint64_t one = 1;
    static_cast<void>(!write(fd_, &one, sizeof(one)));  // full means raised
  }
  void drain() noexcept {
    std::uint64_t count = 0;
    static_cast<void>(!read(fd_, &count, sizeof(count)));
  }

 private:
  int fd_;
};

}  // namespace kvroute::detail
