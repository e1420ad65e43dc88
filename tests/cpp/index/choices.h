#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kvroute/base/random.h"

namespace kvroute::testing {

/// Where a test takes its decisions from: a seeded generator, or the bytes of a fuzzer (and 0
/// when they are used up).
class Choices {
 public:
  explicit Choices(std::uint64_t seed) : random_(seed) {}
  explicit Choices(std::span<const std::uint8_t> bytes)
      : random_(0), bytes_(bytes), fuzzed_(true) {}

  /// A number in [0, bound); bound > 0.
  [[nodiscard]] std::uint32_t below(std::uint32_t bound) {
    if (!fuzzed_) return static_cast<std::uint32_t>(random_.below(bound));
    std::uint32_t value = next_byte();
    if (bound > 256) value |= static_cast<std::uint32_t>(next_byte()) << 8;
    return value % bound;
  }
  [[nodiscard]] bool one_in(std::uint32_t n) { return below(n) == 0; }
  [[nodiscard]] bool exhausted() const { return fuzzed_ && used_ >= bytes_.size(); }

 private:
  std::uint8_t next_byte() { return used_ < bytes_.size() ? bytes_[used_++] : std::uint8_t{0}; }

  Random random_;
  std::span<const std::uint8_t> bytes_;
  std::size_t used_ = 0;
  bool fuzzed_ = false;
};

}  // namespace kvroute::testing
