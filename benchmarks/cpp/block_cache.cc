#include "block_cache.h"

#include <bit>

namespace kvroute::bench {

BlockCache::BlockCache(std::size_t capacity)
    : blocks_(capacity + 1), buckets_(std::bit_ceil(capacity * 2)) {
  in_use_.reserve(capacity);
}

std::size_t BlockCache::serve(std::span<const std::uint64_t> names,
                              std::vector<std::uint64_t>& evicted) {
  in_use_.clear();
  std::size_t hits = 0;
  for (; hits < names.size(); ++hits) {
    const std::uint32_t block = bucket_of(names[hits]);
    if (block == 0) break;
    unlink(block);
    in_use_.push_back(block);
  }
  for (std::size_t i = hits; i < names.size(); ++i) {
    const std::uint32_t block = take_block(evicted);
    blocks_[block].name = names[i];
    bucket_of(names[i]) = block;
    in_use_.push_back(block);
  }
  for (std::size_t i = in_use_.size(); i-- > 0;) append(in_use_[i]);
  return hits;
}

/// The bucket that holds the name's block, or the empty one where it would go.
std::uint32_t& BlockCache::bucket_of(std::uint64_t name) {
  const std::size_t mask = buckets_.size() - 1;
  std::size_t at = name & mask;
  while (buckets_[at] != 0 && blocks_[buckets_[at]].name != name) at = (at + 1) & mask;
  return buckets_[at];
}

/// Empties a bucket, and moves those behind it up that would not be found any more (Knuth, vol. 3,
/// 6.4, algorithm R).
void BlockCache::forget(std::uint64_t name) {
  const std::size_t mask = buckets_.size() - 1;
  auto hole = static_cast<std::size_t>(&bucket_of(name) - buckets_.data());
  for (std::size_t at = (hole + 1) & mask; buckets_[at] != 0; at = (at + 1) & mask) {
    const std::size_t home = blocks_[buckets_[at]].name & mask;
    if (((at - home) & mask) < ((at - hole) & mask)) continue;
    buckets_[hole] = buckets_[at];
    hole = at;
  }
  buckets_[hole] = 0;
}

void BlockCache::unlink(std::uint32_t block) {
  blocks_[blocks_[block].older].newer = blocks_[block].newer;
  blocks_[blocks_[block].newer].older = blocks_[block].older;
}

void BlockCache::append(std::uint32_t block) {
  blocks_[block].older = blocks_[0].older;
  blocks_[block].newer = 0;
  blocks_[blocks_[0].older].newer = block;
  blocks_[0].older = block;
}

/// A block to use anew: one never used, or the oldest.
std::uint32_t BlockCache::take_block(std::vector<std::uint64_t>& evicted) {
  if (size_ + 1 < blocks_.size()) return static_cast<std::uint32_t>(++size_);
  const std::uint32_t block = blocks_[0].newer;
  unlink(block);
  forget(blocks_[block].name);
  evicted.push_back(blocks_[block].name);
  return block;
}

}  // namespace kvroute::bench
