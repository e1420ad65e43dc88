#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kvroute/base/ids.h"

namespace kvroute::detail {

/// A set of slots: one inline word of 64 while its members lie within one aligned group of 64,
/// words from slot 0 up to the highest otherwise. 16 bytes, since every node has one.
class SlotSet {
 public:
  SlotSet() noexcept : inline_(0) {}
  SlotSet(SlotSet&& other) noexcept : SlotSet() { take(other); }
  SlotSet& operator=(SlotSet&& other) noexcept {
    if (this != &other) {
      drop_words();
      take(other);
    }
    return *this;
  }
  SlotSet(const SlotSet&) = delete;
  SlotSet& operator=(const SlotSet&) = delete;
  ~SlotSet() { drop_words(); }

  [[nodiscard]] bool contains(Slot slot) const noexcept {
    return (word(slot / 64) >> (slot % 64) & 1) != 0;
  }
  [[nodiscard]] std::uint64_t word(std::uint32_t index) const noexcept {
    if (count_ == 0) return index == first_ ? inline_ : 0;
    return index < count_ ? words_[index] : 0;
  }
  /// Words outside [word_begin, word_end) are 0.
  [[nodiscard]] std::uint32_t word_begin() const noexcept { return first_; }
  [[nodiscard]] std::uint32_t word_end() const noexcept { return count_ > 0 ? count_ : first_ + 1; }

  [[nodiscard]] bool empty() const noexcept;
  [[nodiscard]] std::uint32_t size() const noexcept;

  void insert(Slot slot, std::size_t& bytes);
  void erase(Slot slot, std::size_t& bytes);
  [[nodiscard]] SlotSet copy(std::size_t& bytes) const;
  void clear(std::size_t& bytes);
  [[nodiscard]] std::size_t heap_bytes() const noexcept { return count_ * sizeof(std::uint64_t); }

  template <typename Visit>
  void for_each(Visit visit) const {
    for (std::uint32_t i = word_begin(); i < word_end(); ++i) {
      for (std::uint64_t bits = word(i); bits != 0; bits &= bits - 1) {
        visit(i * 64 + static_cast<Slot>(std::countr_zero(bits)));
      }
    }
  }

 private:
  using Words = std::unique_ptr<std::uint64_t[]>;

  void grow(std::uint32_t count, std::size_t& bytes);
  /// Of an empty set.
  void take(SlotSet& other) noexcept;
  /// Leaves the empty set.
  void drop_words() noexcept;

  union {
    std::uint64_t inline_;  // while count_ is 0
    Words words_;           // otherwise
  };
  std::uint32_t first_ = 0;  // the inline word's number; 0 otherwise
  std::uint32_t count_ = 0;  // words in words_
};

}  // namespace kvroute::detail
