#include "index/holder.h"

#include <algorithm>

namespace kvroute::detail {
namespace {

template <typename Table>
void shrink(Table& table, std::size_t slots) {
  if (slots > 64 && table.size() < slots / 8) table.rehash(0);
}

}  // namespace

bool OddNames::drop_copy(std::uint64_t name) {
  const auto found = copies_.find(name);
  if (found == copies_.end()) return false;
  if (--found.value() == 0) {
    copies_.erase(found);
    shrink(copies_, copies_.bucket_count());
  }
  return true;
}

BlockId OddNames::find_alias(std::uint64_t name) const {
  const auto found = aliases_.find(name);
  return found == aliases_.end() ? kNoId : found->second;
}

void OddNames::add_alias(BlockId block, std::uint64_t name) {
  aliases_.emplace(name, block);
  ++*fixed_blocks_;
  aliases_of_.try_emplace(block, CountingAllocator<std::uint64_t>(bytes_))
      .first->second.push_back(name);
}

bool OddNames::drop_alias(BlockId block, std::uint64_t name) {
  const auto found = aliases_.find(name);
  if (found == aliases_.end() || found->second != block) return false;
  aliases_.erase(found);
  --*fixed_blocks_;
  shrink(aliases_, aliases_.capacity());
  const auto others = aliases_of_.find(block);
  std::erase(others->second, name);
  if (others->second.empty()) aliases_of_.erase(others);
  shrink(aliases_of_, aliases_of_.capacity());
  return true;
}

std::optional<std::uint64_t> OddNames::take_alias(BlockId block) {
  const auto others = aliases_of_.find(block);
  if (others == aliases_of_.end()) return std::nullopt;
  const std::uint64_t name = others->second.back();
  drop_alias(block, name);
  return name;
}

}  // namespace kvroute::detail
