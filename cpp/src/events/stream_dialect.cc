#include "kvroute/events/stream_dialect.h"

#include <algorithm>

namespace kvroute {
namespace {

[[nodiscard]] bool is_full_attention(std::string_view kind) noexcept {
  return kind == "full_attention" || kind == "mla_attention" || kind == "sink_full_attention";
}

}  // namespace

bool StreamDialect::indexes_stored(std::optional<std::uint32_t> group_idx, std::string_view kind) {
  const std::uint32_t index = group_idx.value_or(0);
  if (kind.empty()) return index == 0;
  const bool main = is_full_attention(kind);
  if (index < kMaxGroups) {
    if (index >= groups_.size()) groups_.resize(index + std::size_t{1}, Group::unknown);
    groups_[index] = main ? Group::main : Group::other;
  }
  return main && index < kMaxGroups;
}

bool StreamDialect::indexes_removed(std::optional<std::uint32_t> group_idx) const noexcept {
  const std::uint32_t index = group_idx.value_or(0);
  const Group group = index < groups_.size() ? groups_[index] : Group::unknown;
  return group == Group::main || (group == Group::unknown && index == 0);
}

void StreamDialect::saw_stored(std::span<const std::uint64_t> engine_hashes) noexcept {
  if (zero_is_a_hash_) return;
  zero_is_a_hash_ =
      std::find(engine_hashes.begin(), engine_hashes.end(), 0U) != engine_hashes.end();
}

void StreamDialect::reset() noexcept {
  groups_.clear();
  zero_is_a_hash_ = false;
}

}  // namespace kvroute
