#include "events/event_field.h"

#include <array>
#include <utility>

namespace kvroute::detail {
namespace {

using Entry = std::pair<std::string_view, Field>;

constexpr std::array kBatchFields{
    Entry{"ts", Field::ignored},
    Entry{"events", Field::batch_events},
    Entry{"data_parallel_rank", Field::batch_rank},
    Entry{"attn_dp_rank", Field::batch_rank},
};

constexpr std::array kEventFields{
    Entry{"type", Field::type},
    Entry{"block_hashes", Field::block_hashes},
    Entry{"parent_block_hash", Field::parent},
    Entry{"token_ids", Field::token_ids},
    Entry{"block_size", Field::block_size},
    Entry{"lora_id", Field::lora_id},
    Entry{"medium", Field::medium},
    Entry{"lora_name", Field::lora_name},
    Entry{"extra_keys", Field::extra_keys},
    Entry{"group_idx", Field::group_idx},
    Entry{"kv_cache_spec_kind", Field::spec_kind},
    Entry{"kv_cache_spec_sliding_window", Field::ignored},
    Entry{"locality", Field::locality},
    Entry{"ownership", Field::ignored},
    Entry{"session_id", Field::ignored},
    Entry{"cache_salt", Field::cache_salt},
    Entry{"metadata", Field::metadata},
    Entry{"mm_keys", Field::foreign_keys},
    Entry{"block_mm_infos", Field::foreign_keys},
    Entry{"lookahead_token_ids", Field::ignored},
    Entry{"remaining_copy_counts", Field::ignored},
};

constexpr std::array kStoredPositions{
    Field::type,       Field::block_hashes, Field::parent,    Field::token_ids,
    Field::block_size, Field::lora_id,      Field::medium,    Field::lora_name,
    Field::extra_keys, Field::group_idx,    Field::spec_kind,
};

constexpr std::array kRemovedPositions{
    Field::type, Field::block_hashes, Field::medium, Field::group_idx, Field::spec_kind,
};

template <std::size_t kSize>
[[nodiscard]] Field find(const std::array<Entry, kSize>& entries, std::string_view name) noexcept {
  for (const Entry& entry : entries) {
    if (entry.first == name) return entry.second;
  }
  return Field::unknown;
}

}  // namespace

Field batch_field_named(std::string_view name) noexcept { return find(kBatchFields, name); }

Field event_field_named(std::string_view name) noexcept { return find(kEventFields, name); }

Field event_field_at(EventKind kind, std::uint32_t position) noexcept {
  if (position == 0) return Field::type;
  if (kind == EventKind::stored && position < kStoredPositions.size()) {
    return kStoredPositions[position];
  }
  if (kind == EventKind::removed && position < kRemovedPositions.size()) {
    return kRemovedPositions[position];
  }
  return Field::ignored;
}

EventKind event_kind_named(std::string_view tag) noexcept {
  if (tag == "BlockStored") return EventKind::stored;
  if (tag == "BlockRemoved") return EventKind::removed;
  if (tag == "AllBlocksCleared") return EventKind::cleared;
  return EventKind::unknown;
}

std::uint32_t min_array_size(EventKind kind) noexcept {
  if (kind == EventKind::stored) return 5;
  if (kind == EventKind::removed) return 2;
  return 1;
}

}  // namespace kvroute::detail
