#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace kvroute::detail {

/// A stretch of one of a DraftBatch's buffers.
struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;

  [[nodiscard]] std::size_t size() const noexcept { return end - begin; }
};

enum class EventKind : std::uint8_t { unknown, stored, removed, cleared };

/// One element of a block's `extra_keys`, before it is known what a bare text means.
struct ExtraItem {
  enum class Kind : std::uint8_t { text, object, embeds, unknown };
  Kind kind;
  std::string_view bytes;
};

/// One event as it stood in the payload: fields collected in any order, checked for type only.
struct EventDraft {
  EventKind kind = EventKind::unknown;
  bool bad = false;  ///< a field has a wrong type or comes twice
  bool has_hashes = false;
  bool has_tokens = false;
  bool has_extra = false;
  bool tainted = false;  ///< carries content outside `extra_keys`
  Range hashes;
  Range tokens;
  Range extra_blocks;  ///< into `extra_ends`
  std::size_t first_extra_item = 0;
  std::optional<std::uint64_t> parent;
  std::uint32_t block_size = 0;  ///< 0: absent
  std::string_view medium;
  std::string_view locality;
  std::string_view lora_name;
  std::optional<std::int64_t> lora_id;
  std::string_view cache_salt;
  std::optional<std::uint32_t> group_idx;
  std::string_view spec_kind;
};

/// One payload taken apart: its events, and the flat buffers that their ranges point into. Texts
/// are views into the payload.
struct DraftBatch {
  std::vector<EventDraft> events;
  std::vector<std::uint64_t> hashes;
  std::vector<std::uint32_t> tokens;
  std::vector<ExtraItem> extra_items;
  std::vector<std::size_t> extra_ends;  ///< end in `extra_items` of each block's items
  std::optional<std::uint32_t> dp_rank;
  bool has_events = false;
  std::uint64_t unknown_keys = 0;
  std::uint64_t unknown_events = 0;  ///< left out of `events`, as bad ones are
  std::uint64_t bad_events = 0;

  void clear() noexcept {
    empty(events);
    empty(hashes);
    empty(tokens);
    empty(extra_items);
    empty(extra_ends);
    dp_rank.reset();
    has_events = false;
    unknown_keys = 0;
    unknown_events = 0;
    bad_events = 0;
  }

 private:
  /// Keeps the memory for the next batch, unless this one was unusually large.
  template <typename T>
  static void empty(std::vector<T>& buffer) noexcept {
    constexpr std::size_t kKeptBytes = std::size_t{4} << 20;
    if (buffer.capacity() * sizeof(T) > kKeptBytes) {
      std::vector<T>().swap(buffer);
    } else {
      buffer.clear();
    }
  }
};

}  // namespace kvroute::detail
