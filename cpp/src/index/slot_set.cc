#include "index/slot_set.h"

#include <algorithm>
#include <utility>

namespace kvroute::detail {

bool SlotSet::empty() const noexcept {
  if (count_ == 0) return inline_ == 0;
  return std::all_of(words_.get(), words_.get() + count_, [](std::uint64_t w) { return w == 0; });
}

std::uint32_t SlotSet::size() const noexcept {
  std::uint32_t total = 0;
  for (std::uint32_t i = word_begin(); i < word_end(); ++i) {
    total += static_cast<std::uint32_t>(std::popcount(word(i)));
  }
  return total;
}

void SlotSet::grow(std::uint32_t count, std::size_t& bytes) {
  auto words = std::make_unique<std::uint64_t[]>(count);
  for (std::uint32_t i = word_begin(); i < word_end() && i < count; ++i) words[i] = word(i);
  bytes += count * sizeof(std::uint64_t) - heap_bytes();
  drop_words();
  std::construct_at(&words_, std::move(words));
  count_ = count;
}

void SlotSet::take(SlotSet& other) noexcept {
  if (other.count_ == 0) {
    inline_ = std::exchange(other.inline_, 0);
  } else {
    std::construct_at(&words_, std::move(other.words_));
    count_ = other.count_;
    other.drop_words();
  }
  first_ = std::exchange(other.first_, 0);
}

void SlotSet::drop_words() noexcept {
  if (count_ > 0) std::destroy_at(&words_);
  inline_ = 0;
  first_ = 0;
  count_ = 0;
}

void SlotSet::insert(Slot slot, std::size_t& bytes) {
  const std::uint32_t index = slot / 64;
  const std::uint64_t bit = std::uint64_t{1} << (slot % 64);
  if (count_ == 0) {
    if (inline_ == 0) first_ = index;
    if (first_ == index) {
      inline_ |= bit;
      return;
    }
    grow(std::max(first_, index) + 1, bytes);
  } else if (index >= count_) {
    grow(index + 1, bytes);
  }
  words_[index] |= bit;
}

void SlotSet::erase(Slot slot, std::size_t& bytes) {
  const std::uint32_t index = slot / 64;
  const std::uint64_t bit = std::uint64_t{1} << (slot % 64);
  if (count_ == 0) {
    if (first_ == index) inline_ &= ~bit;
    return;
  }
  if (index < count_) words_[index] &= ~bit;
  if (empty()) clear(bytes);
}

SlotSet SlotSet::copy(std::size_t& bytes) const {
  SlotSet other;
  if (count_ == 0) {
    other.inline_ = inline_;
    other.first_ = first_;
    return other;
  }
  other.grow(count_, bytes);
  std::copy(words_.get(), words_.get() + count_, other.words_.get());
  return other;
}

void SlotSet::clear(std::size_t& bytes) {
  bytes -= heap_bytes();
  drop_words();
}

}  // namespace kvroute::detail
