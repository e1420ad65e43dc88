#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvroute/base/ids.h"

namespace kvroute {

/// A set of targets by slot: one bit each. Not thread-safe.
class TargetSet {
 public:
  [[nodiscard]] bool contains(Slot slot) const noexcept {
    const std::size_t word = slot / 64;
    return word < words_.size() && (words_[word] >> (slot % 64) & 1U) != 0;
  }
  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }

  void insert(Slot slot) {
    if (contains(slot)) return;
    if (slot / 64 >= words_.size()) words_.resize(slot / 64 + 1);
    words_[slot / 64] |= std::uint64_t{1} << (slot % 64);
    ++count_;
  }
  void erase(Slot slot) noexcept {
    if (!contains(slot)) return;
    words_[slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
    --count_;
  }

 private:
  std::vector<std::uint64_t> words_;
  std::size_t count_ = 0;
};

}  // namespace kvroute
