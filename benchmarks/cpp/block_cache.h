#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kvroute::bench {

/// The prefix cache of one engine, as vLLM keeps it: of a full cache, the blocks go that were used
/// longest ago, of one request the last block first. Allocates nothing after it is made, so that
/// what the process's memory does beside it is another's doing.
class BlockCache {
 public:
  /// \param capacity blocks; requests must be shorter
  explicit BlockCache(std::size_t capacity);

  /// Serves a request, given by the names of its blocks from the first on. What had to go for it is
  /// appended to `evicted`, in the order in which it went.
  /// \return how many leading blocks were cached; the others are now.
  std::size_t serve(std::span<const std::uint64_t> names, std::vector<std::uint64_t>& evicted);

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  struct Block {
    std::uint64_t name = 0;
    std::uint32_t older = 0;
    std::uint32_t newer = 0;
  };

  [[nodiscard]] std::uint32_t& bucket_of(std::uint64_t name);
  void forget(std::uint64_t name);
  void unlink(std::uint32_t block);
  void append(std::uint32_t block);
  [[nodiscard]] std::uint32_t take_block(std::vector<std::uint64_t>& evicted);

  std::vector<Block> blocks_;           // [0] stands before the oldest and after the newest
  std::vector<std::uint32_t> buckets_;  // linear probing; 0: empty
  std::vector<std::uint32_t> in_use_;   // blocks of the request that is served, in its order
  std::size_t size_ = 0;
};

}  // namespace kvroute::bench
