#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "events/draft_batch.h"
#include "events/event_field.h"

namespace kvroute::detail {

/// A value that is neither array nor map.
struct Scalar {
  enum class Kind : std::uint8_t { nil, unsigned_int, negative_int, text, bytes, other };
  Kind kind = Kind::other;
  std::uint64_t number = 0;  ///< of a negative integer: its two's complement
  std::string_view text;
};

/// Fills a DraftBatch from msgpack-cxx's visitor parser. Returning false stops the parser: the
/// payload is no batch. A field of the wrong type only marks its event as bad.
class BatchVisitor {
 public:
  explicit BatchVisitor(DraftBatch& batch) noexcept : batch_(batch) {}

  bool visit_nil() { return scalar({.kind = Scalar::Kind::nil, .number = 0, .text = {}}); }
  bool visit_boolean(bool) { return scalar({}); }
  bool visit_float32(float) { return scalar({}); }
  bool visit_float64(double) { return scalar({}); }
  bool visit_ext(const char*, std::uint32_t) { return scalar({}); }
  bool visit_positive_integer(std::uint64_t value) {
    if (depth_ > 0 && top().frame == Frame::tokens && value <= UINT32_MAX) {
      batch_.tokens.push_back(static_cast<std::uint32_t>(value));
      return true;
    }
    return scalar({.kind = Scalar::Kind::unsigned_int, .number = value, .text = {}});
  }
  bool visit_negative_integer(std::int64_t value) {
    if (value >= 0) return visit_positive_integer(static_cast<std::uint64_t>(value));
    return scalar({.kind = Scalar::Kind::negative_int,
                   .number = static_cast<std::uint64_t>(value),
                   .text = {}});
  }
  bool visit_str(const char* data, std::uint32_t size) {
    return scalar({.kind = Scalar::Kind::text, .number = 0, .text = {data, size}});
  }
  bool visit_bin(const char* data, std::uint32_t size) {
    return scalar({.kind = Scalar::Kind::bytes, .number = 0, .text = {data, size}});
  }

  bool start_array(std::uint32_t size);
  bool start_array_item() { return true; }
  bool end_array_item() {
    ++top().index;
    return true;
  }
  bool end_array();

  bool start_map(std::uint32_t size);
  bool start_map_key() {
    top().in_key = true;
    top().field = Field::unknown;
    return true;
  }
  bool end_map_key() {
    top().in_key = false;
    return true;
  }
  bool start_map_value() { return true; }
  bool end_map_value() { return true; }
  bool end_map();

  void parse_error(std::size_t, std::size_t) {}
  void insufficient_bytes(std::size_t, std::size_t) {}
  [[nodiscard]] bool referenced() const { return false; }
  void set_referenced(bool) {}

 private:
  /// What the container at one depth is.
  enum class Frame : std::uint8_t {
    batch_array,
    batch_map,
    events,
    event_array,
    event_map,
    hashes,
    tokens,
    extra_blocks,    ///< `extra_keys`: one entry per block
    extra_items,     ///< one block's entry
    extra_object,    ///< [identifier, offset]
    metadata,        ///< SGLang's map with `cache_salt`
    foreign_blocks,  ///< `mm_keys`: one entry per block
    foreign_items,   ///< one block's entry there
    skipped,
  };
  struct Level {
    Frame frame = Frame::skipped;
    bool in_key = false;
    Field field = Field::unknown;  ///< of a map: whose value comes
    std::uint32_t index = 0;       ///< of an array: elements done
  };
  static constexpr std::size_t kMaxDepth = 32;

  [[nodiscard]] Level& top() noexcept { return levels_[depth_ - 1]; }
  [[nodiscard]] EventDraft& draft() noexcept { return batch_.events.back(); }
  [[nodiscard]] bool push(Frame frame) noexcept;
  [[nodiscard]] Field field_at_top() noexcept;

  bool scalar(const Scalar& value);
  void map_key(const Scalar& key);
  bool batch_field(Field field, const Scalar& value);
  void event_field(Field field, const Scalar& value);
  void hash_element(const Scalar& value);
  void extra_element(const Scalar& value);
  void object_element(const Scalar& value);

  [[nodiscard]] bool start_event(Frame frame);
  [[nodiscard]] Frame event_child_array(Field field);
  [[nodiscard]] Frame event_child_map(Field field);
  void end_event();
  /// Adds to the block being read; empty texts count as absent, unknown content once.
  void add_extra(ExtraItem::Kind kind, std::string_view bytes);
  [[nodiscard]] std::size_t block_items_begin() noexcept;

  DraftBatch& batch_;
  std::array<Level, kMaxDepth> levels_{};
  std::size_t depth_ = 0;
  ExtraItem object_{ExtraItem::Kind::unknown, {}};  ///< being read
};

}  // namespace kvroute::detail
