#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace kvroute::detail {

/// A standard allocator that adds what it hands out to a counter. The counter outlives it.
template <typename T>
class CountingAllocator {
 public:
  using value_type = T;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;

  explicit CountingAllocator(std::size_t* bytes) noexcept : bytes_(bytes) {}
  template <typename U>
  CountingAllocator(const CountingAllocator<U>& other) noexcept  // NOLINT(*-explicit-*): converts
      : bytes_(other.bytes()) {}

  [[nodiscard]] T* allocate(std::size_t n) {
    *bytes_ += n * sizeof(T);
    return std::allocator<T>{}.allocate(n);
  }
  void deallocate(T* items, std::size_t n) noexcept {
    *bytes_ -= n * sizeof(T);
    std::allocator<T>{}.deallocate(items, n);
  }
  [[nodiscard]] std::size_t* bytes() const noexcept { return bytes_; }

  template <typename U>
  friend bool operator==(const CountingAllocator& a, const CountingAllocator<U>& b) noexcept {
    return a.bytes_ == b.bytes();
  }

 private:
  std::size_t* bytes_;
};

/// A growable array of 16 bytes for the many small lists inside nodes: most are empty, so neither
/// a counter nor 64-bit sizes are kept in it; whoever changes it names the counter.
template <typename T>
class CompactVector {
 public:
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] T& operator[](std::uint32_t i) noexcept { return items_[i]; }
  [[nodiscard]] const T& operator[](std::uint32_t i) const noexcept { return items_[i]; }
  [[nodiscard]] T* begin() noexcept { return items_.get(); }
  [[nodiscard]] T* end() noexcept { return items_.get() + size_; }
  [[nodiscard]] const T* begin() const noexcept { return items_.get(); }
  [[nodiscard]] const T* end() const noexcept { return items_.get() + size_; }
  [[nodiscard]] std::size_t heap_bytes() const noexcept { return capacity_ * sizeof(T); }

  void insert(std::uint32_t at, T item, std::size_t& bytes) {
    if (size_ == capacity_)
      resize_storage(capacity_ == 0 ? 1 : capacity_ + capacity_ / 2 + 1, bytes);
    for (std::uint32_t i = size_; i > at; --i) items_[i] = std::move(items_[i - 1]);
    items_[at] = std::move(item);
    ++size_;
  }
  void push_back(T item, std::size_t& bytes) { insert(size_, std::move(item), bytes); }

  void erase(std::uint32_t first, std::uint32_t last, std::size_t& bytes) {
    if (first == last) return;
    for (std::uint32_t i = last; i < size_; ++i) items_[first + i - last] = std::move(items_[i]);
    const std::uint32_t kept = size_ - (last - first);
    for (std::uint32_t i = kept; i < size_; ++i) items_[i] = T{};
    size_ = kept;
    if (size_ <= capacity_ / 4) resize_storage(size_, bytes);
  }
  void erase(std::uint32_t at, std::size_t& bytes) { erase(at, at + 1, bytes); }

 private:
  void resize_storage(std::uint32_t capacity, std::size_t& bytes) {
    auto items = capacity == 0 ? nullptr : std::make_unique<T[]>(capacity);
    for (std::uint32_t i = 0; i < size_; ++i) items[i] = std::move(items_[i]);
    bytes += (std::size_t{capacity} - capacity_) * sizeof(T);
    items_ = std::move(items);
    capacity_ = capacity;
  }

  std::unique_ptr<T[]> items_;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = 0;
};

}  // namespace kvroute::detail
