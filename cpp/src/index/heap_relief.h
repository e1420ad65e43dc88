#pragma once

#include <algorithm>
#include <cstddef>

namespace kvroute::detail {

/// Tells when an index has given so much memory back to the heap that the heap is to be asked to
/// give it back to the system, which it does by itself only for what lies at its end.
class HeapRelief {
 public:
  /// What the index occupies before it may shrink.
  void note(std::size_t bytes) noexcept { most_ = std::max(most_, bytes); }

  /// Whether it occupies less than half of the most since this was last true, and at least 32 MiB
  /// less.
  [[nodiscard]] bool due(std::size_t bytes) noexcept {
    if (bytes >= most_ / 2 || most_ - bytes < kLeast) return false;
    most_ = bytes;
    return true;
  }

  /// Asks the heap (glibc's; nothing elsewhere). Takes some 0.2 ms for each MiB that goes back, in
  /// which other threads may have to wait for memory: to be called without any lock.
  static void give_back() noexcept;

 private:
  static constexpr std::size_t kLeast = std::size_t{32} << 20;

  std::size_t most_ = 0;
};

}  // namespace kvroute::detail
