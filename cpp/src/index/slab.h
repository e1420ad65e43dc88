#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace kvroute::detail {

/// Items addressed by dense 32-bit ids and kept in chunks of 64, so that they never move; a chunk
/// whose items are all gone is given back. An id is reused after its item has been released.
template <typename T>
class Slab {
 public:
  explicit Slab(std::size_t* bytes) noexcept : bytes_(bytes) {}

  [[nodiscard]] T& operator[](std::uint32_t id) noexcept {
    return chunks_[id / kChunk]->items[id % kChunk];
  }
  [[nodiscard]] const T& operator[](std::uint32_t id) const noexcept {
    return chunks_[id / kChunk]->items[id % kChunk];
  }

  [[nodiscard]] std::uint32_t allocate() {
    if (open_.empty()) open_chunk();
    const std::uint32_t index = open_.back();
    Chunk& chunk = *chunks_[index];
    const auto bit = static_cast<std::uint32_t>(std::countr_one(chunk.used));
    chunk.used |= std::uint64_t{1} << bit;
    if (chunk.used == ~std::uint64_t{0}) close(index);
    ++live_;
    return index * kChunk + bit;
  }

  void release(std::uint32_t id) {
    const std::uint32_t index = id / kChunk;
    Chunk& chunk = *chunks_[index];
    chunk.items[id % kChunk] = T{};
    if (chunk.used == ~std::uint64_t{0}) {
      chunk.open_at = static_cast<std::uint32_t>(open_.size());
      open_.push_back(index);
    }
    chunk.used &= ~(std::uint64_t{1} << (id % kChunk));
    --live_;
    if (chunk.used != 0) return;
    close(index);
    chunks_[index].reset();
    vacant_.push_back(index);
    *bytes_ -= sizeof(Chunk);
  }

  [[nodiscard]] bool live(std::uint32_t id) const noexcept {
    return id / kChunk < chunks_.size() && chunks_[id / kChunk] != nullptr &&
           (chunks_[id / kChunk]->used >> (id % kChunk) & 1) != 0;
  }
  [[nodiscard]] std::size_t size() const noexcept { return live_; }
  /// One above the largest id ever given out.
  [[nodiscard]] std::uint32_t id_end() const noexcept {
    return static_cast<std::uint32_t>(chunks_.size()) * kChunk;
  }

 private:
  static constexpr std::uint32_t kChunk = 64;
  struct Chunk {
    std::uint64_t used = 0;
    std::uint32_t open_at = 0;
    std::array<T, kChunk> items{};
  };

  void open_chunk() {
    auto index = static_cast<std::uint32_t>(chunks_.size());
    if (vacant_.empty()) {
      chunks_.emplace_back();
    } else {
      index = vacant_.back();
      vacant_.pop_back();
    }
    chunks_[index] = std::make_unique<Chunk>();
    *bytes_ += sizeof(Chunk);
    chunks_[index]->open_at = static_cast<std::uint32_t>(open_.size());
    open_.push_back(index);
  }

  void close(std::uint32_t index) {
    const std::uint32_t at = chunks_[index]->open_at;
    open_[at] = open_.back();
    chunks_[open_[at]]->open_at = at;
    open_.pop_back();
  }

  std::size_t* bytes_;
  std::size_t live_ = 0;
  std::vector<std::unique_ptr<Chunk>> chunks_;
  std::vector<std::uint32_t> open_;    // chunks with a free place
  std::vector<std::uint32_t> vacant_;  // numbers of chunks that were given back
};

}  // namespace kvroute::detail
