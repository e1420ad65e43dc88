#include "events/batch_visitor.h"

namespace kvroute::detail {
namespace {

using Kind = Scalar::Kind;

constexpr std::uint32_t kEventsPosition = 1;
constexpr std::uint32_t kRankPosition = 2;

[[nodiscard]] bool is_integer(const Scalar& value) noexcept {
  return value.kind == Kind::unsigned_int || value.kind == Kind::negative_int;
}

[[nodiscard]] bool is_u32(const Scalar& value) noexcept {
  return value.kind == Kind::unsigned_int && value.number <= UINT32_MAX;
}

/// An engine hash as 64 bits; empty if the value is none.
[[nodiscard]] std::optional<std::uint64_t> engine_hash(const Scalar& value) noexcept {
  if (is_integer(value)) return value.number;
  if (value.kind != Kind::bytes || value.text.empty()) return std::nullopt;
  constexpr std::size_t kHashBytes = 8;
  std::string_view tail = value.text;
  if (tail.size() > kHashBytes) tail.remove_prefix(tail.size() - kHashBytes);
  std::uint64_t hash = 0;
  for (const char byte : tail) hash = (hash << 8) | static_cast<unsigned char>(byte);
  return hash;
}

}  // namespace

bool BatchVisitor::push(Frame frame) noexcept {
  if (depth_ == kMaxDepth) return false;
  levels_[depth_++] = Level{.frame = frame};
  return true;
}

bool BatchVisitor::scalar(const Scalar& value) {
  if (depth_ == 0) return false;
  const Level& level = top();
  if (level.in_key) {
    map_key(value);
    return true;
  }
  switch (level.frame) {
    case Frame::batch_array:
      if (level.index == kEventsPosition) return false;
      return level.index != kRankPosition || batch_field(Field::batch_rank, value);
    case Frame::batch_map: return batch_field(level.field, value);
    case Frame::events: ++batch_.bad_events; break;
    case Frame::event_array:
    case Frame::event_map: event_field(field_at_top(), value); break;
    case Frame::hashes: hash_element(value); break;
    case Frame::tokens:  // a token id has already been taken
      draft().bad = true;
      break;
    case Frame::extra_blocks:
      if (value.kind != Kind::nil) add_extra(ExtraItem::Kind::unknown, {});
      batch_.extra_ends.push_back(batch_.extra_items.size());
      break;
    case Frame::extra_items: extra_element(value); break;
    case Frame::extra_object: object_element(value); break;
    case Frame::metadata:
      if (level.field == Field::cache_salt) event_field(Field::cache_salt, value);
      break;
    case Frame::foreign_blocks:
      if (value.kind != Kind::nil) draft().tainted = true;
      break;
    case Frame::foreign_items: draft().tainted = true; break;
    case Frame::skipped: break;
  }
  return true;
}

void BatchVisitor::map_key(const Scalar& key) {
  Level& level = top();
  const bool is_text = key.kind == Kind::text;
  switch (level.frame) {
    case Frame::batch_map:
      level.field = is_text ? batch_field_named(key.text) : Field::unknown;
      break;
    case Frame::event_map:
      level.field = is_text ? event_field_named(key.text) : Field::unknown;
      break;
    case Frame::metadata:
      level.field = is_text && key.text == "cache_salt" ? Field::cache_salt : Field::ignored;
      return;
    default: return;
  }
  if (level.field == Field::unknown) ++batch_.unknown_keys;
}

Field BatchVisitor::field_at_top() noexcept {
  const Level& level = top();
  if (level.frame == Frame::event_array) return event_field_at(draft().kind, level.index);
  return level.field;
}

bool BatchVisitor::batch_field(Field field, const Scalar& value) {
  if (field == Field::batch_events) return false;
  if (field != Field::batch_rank || value.kind == Kind::nil) return true;
  if (!is_u32(value)) return false;
  batch_.dp_rank = static_cast<std::uint32_t>(value.number);
  return true;
}

void BatchVisitor::event_field(Field field, const Scalar& value) {
  EventDraft& event = draft();
  const bool nil = value.kind == Kind::nil;
  const bool text = value.kind == Kind::text;
  bool fits = true;
  switch (field) {
    case Field::type:
      fits = text;
      event.kind = event_kind_named(value.text);
      break;
    case Field::parent:
      event.parent = engine_hash(value);
      fits = nil || event.parent.has_value();
      break;
    case Field::block_size:
      fits = nil || is_u32(value);
      event.block_size = static_cast<std::uint32_t>(value.number);
      break;
    case Field::lora_id:
      fits = nil || is_integer(value);
      if (!nil) event.lora_id = static_cast<std::int64_t>(value.number);
      break;
    case Field::medium:
      fits = nil || text;
      event.medium = value.text;
      break;
    case Field::lora_name:
      fits = nil || text;
      event.lora_name = value.text;
      break;
    case Field::group_idx:
      fits = nil || is_u32(value);
      if (!nil) event.group_idx = static_cast<std::uint32_t>(value.number);
      break;
    case Field::spec_kind:
      fits = nil || text;
      event.spec_kind = value.text;
      break;
    case Field::locality:
      fits = nil || text;
      event.locality = value.text;
      break;
    case Field::cache_salt:
      fits = nil || text || value.kind == Kind::bytes;
      event.cache_salt = value.text;
      break;
    case Field::foreign_keys: event.tainted = event.tainted || !nil; break;
    case Field::block_hashes:
    case Field::token_ids:
    case Field::extra_keys:
    case Field::metadata: fits = nil; break;
    default: break;
  }
  if (!fits) event.bad = true;
}

void BatchVisitor::hash_element(const Scalar& value) {
  const std::optional<std::uint64_t> hash = engine_hash(value);
  if (hash) {
    batch_.hashes.push_back(*hash);
  } else {
    draft().bad = true;
  }
}

void BatchVisitor::extra_element(const Scalar& value) {
  if (value.kind == Kind::text) {
    add_extra(ExtraItem::Kind::text, value.text);
  } else if (value.kind == Kind::bytes) {
    add_extra(ExtraItem::Kind::embeds, value.text);
  } else {
    add_extra(ExtraItem::Kind::unknown, {});
  }
}

void BatchVisitor::object_element(const Scalar& value) {
  const bool identifier = value.kind == Kind::text || value.kind == Kind::bytes;
  const std::uint32_t index = top().index;
  if (index == 0 && identifier) {
    object_ = {ExtraItem::Kind::object, value.text};
  } else if (index != 1 || !is_integer(value)) {
    object_.kind = ExtraItem::Kind::unknown;
  }
}

void BatchVisitor::add_extra(ExtraItem::Kind kind, std::string_view bytes) {
  std::vector<ExtraItem>& items = batch_.extra_items;
  const bool empty = bytes.empty() && kind != ExtraItem::Kind::unknown;
  const bool known_as_unknown = kind == ExtraItem::Kind::unknown && !items.empty() &&
                                items.back().kind == ExtraItem::Kind::unknown &&
                                items.size() > block_items_begin();
  if (!empty && !known_as_unknown) items.push_back({kind, bytes});
}

std::size_t BatchVisitor::block_items_begin() noexcept {
  const EventDraft& event = draft();
  const std::vector<std::size_t>& ends = batch_.extra_ends;
  return ends.size() > event.extra_blocks.begin ? ends.back() : event.first_extra_item;
}

bool BatchVisitor::start_event(Frame frame) {
  batch_.events.emplace_back();
  return push(frame);
}

void BatchVisitor::end_event() {
  const EventDraft& event = draft();
  const bool needs_hashes = event.kind != EventKind::cleared;
  if (event.kind == EventKind::unknown && !event.bad) {
    ++batch_.unknown_events;
  } else if (event.bad || (needs_hashes && !event.has_hashes)) {
    ++batch_.bad_events;
  } else {
    return;
  }
  batch_.events.pop_back();
}

BatchVisitor::Frame BatchVisitor::event_child_array(Field field) {
  EventDraft& event = draft();
  switch (field) {
    case Field::block_hashes:
      event.bad = event.bad || event.has_hashes;
      event.has_hashes = true;
      event.hashes.begin = batch_.hashes.size();
      return Frame::hashes;
    case Field::token_ids:
      event.bad = event.bad || event.has_tokens;
      event.has_tokens = true;
      event.tokens.begin = batch_.tokens.size();
      return Frame::tokens;
    case Field::extra_keys:
      event.bad = event.bad || event.has_extra;
      event.has_extra = true;
      event.extra_blocks.begin = batch_.extra_ends.size();
      event.first_extra_item = batch_.extra_items.size();
      return Frame::extra_blocks;
    case Field::foreign_keys: return Frame::foreign_blocks;
    case Field::unknown:
    case Field::ignored: return Frame::skipped;
    default: event.bad = true; return Frame::skipped;
  }
}

BatchVisitor::Frame BatchVisitor::event_child_map(Field field) {
  switch (field) {
    case Field::lora_name:  // SGLang's arrays have their metadata where vLLM's have the name
    case Field::metadata: return Frame::metadata;
    case Field::foreign_keys: draft().tainted = true; return Frame::skipped;
    case Field::unknown:
    case Field::ignored: return Frame::skipped;
    default: draft().bad = true; return Frame::skipped;
  }
}

bool BatchVisitor::start_array(std::uint32_t size) {
  if (depth_ == 0) return size >= 2 && push(Frame::batch_array);
  Level& level = top();
  if (level.in_key) {
    if (level.frame == Frame::batch_map || level.frame == Frame::event_map) ++batch_.unknown_keys;
    return push(Frame::skipped);
  }
  switch (level.frame) {
    case Frame::batch_array:
      if (level.index == kRankPosition) return false;
      if (level.index != kEventsPosition) return push(Frame::skipped);
      batch_.has_events = true;
      return push(Frame::events);
    case Frame::batch_map:
      if (level.field == Field::batch_rank) return false;
      if (level.field != Field::batch_events) return push(Frame::skipped);
      if (batch_.has_events) return false;
      batch_.has_events = true;
      return push(Frame::events);
    case Frame::events: return start_event(Frame::event_array);
    case Frame::event_array:
    case Frame::event_map: return push(event_child_array(field_at_top()));
    case Frame::hashes:
    case Frame::tokens: draft().bad = true; return push(Frame::skipped);
    case Frame::extra_blocks: return push(Frame::extra_items);
    case Frame::extra_items:
      object_ = {ExtraItem::Kind::unknown, {}};
      return push(Frame::extra_object);
    case Frame::extra_object: object_.kind = ExtraItem::Kind::unknown; return push(Frame::skipped);
    case Frame::foreign_blocks: return push(Frame::foreign_items);
    case Frame::foreign_items: draft().tainted = true; return push(Frame::skipped);
    case Frame::metadata:
    case Frame::skipped: return push(Frame::skipped);
  }
  return false;
}

bool BatchVisitor::end_array() {
  const Level done = top();
  --depth_;
  switch (done.frame) {
    case Frame::event_array:
      if (done.index < min_array_size(draft().kind)) draft().bad = true;
      end_event();
      break;
    case Frame::hashes: draft().hashes.end = batch_.hashes.size(); break;
    case Frame::tokens: draft().tokens.end = batch_.tokens.size(); break;
    case Frame::extra_blocks: draft().extra_blocks.end = batch_.extra_ends.size(); break;
    case Frame::extra_items: batch_.extra_ends.push_back(batch_.extra_items.size()); break;
    case Frame::extra_object:
      if (done.index != 2) object_.kind = ExtraItem::Kind::unknown;
      add_extra(object_.kind, object_.bytes);
      break;
    default: break;
  }
  return true;
}

bool BatchVisitor::start_map(std::uint32_t) {
  if (depth_ == 0) return push(Frame::batch_map);
  Level& level = top();
  if (level.in_key) {
    if (level.frame == Frame::batch_map || level.frame == Frame::event_map) ++batch_.unknown_keys;
    return push(Frame::skipped);
  }
  switch (level.frame) {
    case Frame::batch_array:
      if (level.index == kRankPosition || level.index == kEventsPosition) return false;
      break;
    case Frame::batch_map:
      if (level.field == Field::batch_rank || level.field == Field::batch_events) return false;
      break;
    case Frame::events: return start_event(Frame::event_map);
    case Frame::event_array:
    case Frame::event_map: return push(event_child_map(field_at_top()));
    case Frame::hashes:
    case Frame::tokens: draft().bad = true; break;
    case Frame::extra_blocks:
      add_extra(ExtraItem::Kind::unknown, {});
      batch_.extra_ends.push_back(batch_.extra_items.size());
      break;
    case Frame::extra_items: add_extra(ExtraItem::Kind::unknown, {}); break;
    case Frame::extra_object: object_.kind = ExtraItem::Kind::unknown; break;
    case Frame::foreign_blocks:
    case Frame::foreign_items: draft().tainted = true; break;
    case Frame::metadata:
    case Frame::skipped: break;
  }
  return push(Frame::skipped);
}

bool BatchVisitor::end_map() {
  const Frame done = top().frame;
  --depth_;
  if (done == Frame::event_map) end_event();
  return true;
}

}  // namespace kvroute::detail
