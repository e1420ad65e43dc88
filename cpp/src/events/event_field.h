#pragma once

#include <cstdint>
#include <string_view>

#include "events/draft_batch.h"

namespace kvroute::detail {

/// The fields of batches and events, whatever their dialect calls them or wherever it puts them.
enum class Field : std::uint8_t {
  unknown,
  ignored,  ///< known, and of no use here
  batch_events,
  batch_rank,
  type,
  block_hashes,
  parent,
  token_ids,
  block_size,
  lora_id,
  medium,
  lora_name,
  extra_keys,
  group_idx,
  spec_kind,
  locality,
  cache_salt,
  metadata,
  foreign_keys,  ///< content keyed in a way of the engine's own: TensorRT-LLM's `mm_keys`
};

[[nodiscard]] Field batch_field_named(std::string_view name) noexcept;
[[nodiscard]] Field event_field_named(std::string_view name) noexcept;

/// The field at a position of an event that is an array; the tag stands at 0.
[[nodiscard]] Field event_field_at(EventKind kind, std::uint32_t position) noexcept;

[[nodiscard]] EventKind event_kind_named(std::string_view tag) noexcept;

/// The fewest elements of an event that is an array.
[[nodiscard]] std::uint32_t min_array_size(EventKind kind) noexcept;

}  // namespace kvroute::detail
