#include "index/slot_names.h"

#include <algorithm>
#include <utility>

namespace kvroute::detail {

void SlotNames::add_first(BlockId block, std::uint64_t name, std::uint64_t& shared_name) {
  if (shared_name == 0) shared_name = name;
  if (shared_name != name || name == 0) own_[block] = name;
}

bool SlotNames::drop(BlockId block, std::uint64_t name, std::uint64_t shared_name) {
  const auto further = further_.empty() ? further_.end() : further_.find(block);
  if (further == further_.end()) {
    if (!own_.empty()) own_.erase(block);
    return true;
  }
  Others& others = further->second;
  if (const auto at = std::find(others.begin(), others.end(), name); at != others.end()) {
    others.erase(at);
  } else {
    own_.erase(block);
    if (others.back() != shared_name || shared_name == 0) own_[block] = others.back();
    others.pop_back();
  }
  if (others.empty()) further_.erase(further);
  return false;
}

void SlotNames::forget(BlockId block, std::uint64_t shared_name) {
  const auto own = own_.empty() ? own_.end() : own_.find(block);
  erase(own == own_.end() ? shared_name : own->second);
  if (own != own_.end()) own_.erase(own);
  if (further_.empty()) return;
  if (const auto further = further_.find(block); further != further_.end()) {
    for (const std::uint64_t name : further->second) erase(name);
    further_.erase(further);
  }
}

std::size_t SlotNames::further() const noexcept {
  std::size_t total = 0;
  for (const auto& entry : further_) total += entry.second.size();
  return total;
}

void SlotNames::divide() {
  const Table whole = std::move(tables_.front());
  tables_.clear();
  const std::size_t count = std::size_t{1} << kTableBits;
  tables_.reserve(count);
  while (tables_.size() < count) tables_.emplace_back(Table::allocator_type(bytes_));
  for (const auto& [name, entry] : whole) table_of(name).emplace(name, entry);
}

void SlotNames::shrink_sparse(std::size_t most) {
  const auto shrink = [&most](auto& table) {
    if (most == 0 || table.capacity() <= 64 || table.size() >= table.capacity() / 4) return;
    table.rehash(0);
    --most;
  };
  for (Table& table : tables_) shrink(table);
  shrink(own_);
  shrink(further_);
}

}  // namespace kvroute::detail
