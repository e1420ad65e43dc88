#include "events/event_reader.h"

#include <algorithm>

#include "kvroute/hash/block_hash.h"

namespace kvroute::detail {
namespace {

using Kind = ExtraItem::Kind;

template <typename T>
[[nodiscard]] std::span<const T> stretch(const std::vector<T>& buffer, const Range& range) {
  return std::span<const T>(buffer).subspan(range.begin, range.size());
}

[[nodiscard]] Tier tier_of(const EventDraft& draft, EventCounts& counts) {
  const std::optional<Tier> tier = tier_of_medium(draft.medium);
  if (!tier) ++counts.unknown_media;
  const bool remote = draft.locality == "REMOTE";
  return remote ? Tier::external : tier.value_or(Tier::external);
}

/// Which of the first block's items is the cache salt: the last text that is not the adapter's
/// name. vLLM puts the salt after adapter and multimodal identifiers.
[[nodiscard]] std::optional<std::size_t> find_salt(std::span<const ExtraItem> items,
                                                   std::string_view lora_name) {
  for (std::size_t i = items.size(); i-- > 0;) {
    if (items[i].kind == Kind::text && items[i].bytes != lora_name) return i;
  }
  return std::nullopt;
}

}  // namespace

EventCounts EventReader::deliver(const DraftBatch& batch, StreamDialect& dialect,
                                 std::uint32_t dp_rank, EventSink& sink) {
  Delivery delivery{batch, dialect, dp_rank, sink, {}};
  delivery.counts.bad_events = batch.bad_events;
  delivery.counts.unknown_events = batch.unknown_events;
  delivery.counts.unknown_keys = batch.unknown_keys;
  for (const EventDraft& draft : batch.events) {
    if (draft.kind == EventKind::stored) {
      deliver_stored(delivery, draft);
    } else if (draft.kind == EventKind::removed) {
      deliver_removed(delivery, draft);
    } else {
      deliver_cleared(delivery, draft);
    }
  }
  return delivery.counts;
}

void EventReader::deliver_stored(Delivery& delivery, const EventDraft& draft) {
  EventCounts& counts = delivery.counts;
  if (!delivery.dialect.indexes_stored(draft.group_idx, draft.spec_kind)) {
    ++counts.other_groups;
    return;
  }
  BlockStored event;
  event.engine_hashes = stretch(delivery.batch.hashes, draft.hashes);
  event.parent = delivery.dialect.parent(draft.parent);
  if (!fills_its_blocks(delivery, draft, event)) return;
  if (repeat_check_.repeats(event.engine_hashes, event.parent)) {
    ++counts.self_referencing;
    return;
  }
  event.tier = tier_of(draft, counts);
  event.lora_name = draft.lora_name;
  event.lora_id = draft.lora_id;
  event.salt = draft.cache_salt;
  event.group_idx = draft.group_idx;
  read_extra(delivery, draft, event);

  ++counts.events;
  counts.stored_blocks += event.engine_hashes.size();
  if (event.token_ids.empty()) ++counts.location_updates;
  if (event.tier != Tier::device) ++counts.other_tier;
  delivery.dialect.saw_stored(event.engine_hashes);
  delivery.sink.on_stored(delivery.dp_rank, event);
}

bool EventReader::fills_its_blocks(Delivery& delivery, const EventDraft& draft,
                                   BlockStored& event) {
  const std::size_t blocks = event.engine_hashes.size();
  event.token_ids = stretch(delivery.batch.tokens, draft.tokens);
  if (blocks == 0) {
    ++delivery.counts.length_mismatch;
    return false;
  }
  if (event.token_ids.empty()) return true;

  const std::uint32_t expected = delivery.dialect.expected_block_size();
  event.block_size = draft.block_size == 0 ? expected : draft.block_size;
  if (expected != 0 && event.block_size != expected) {
    ++delivery.counts.refused_block_size;
    return false;
  }
  const bool fills = event.block_size != 0 && event.token_ids.size() % event.block_size == 0 &&
                     event.token_ids.size() / event.block_size == blocks;
  if (!fills) ++delivery.counts.length_mismatch;
  return fills;
}

void EventReader::deliver_removed(Delivery& delivery, const EventDraft& draft) {
  EventCounts& counts = delivery.counts;
  if (!delivery.dialect.indexes_removed(draft.group_idx)) {
    ++counts.other_groups;
    return;
  }
  BlockRemoved event;
  event.engine_hashes = stretch(delivery.batch.hashes, draft.hashes);
  event.tier = tier_of(draft, counts);
  event.group_idx = draft.group_idx;
  ++counts.events;
  counts.removed_blocks += event.engine_hashes.size();
  if (event.tier != Tier::device) ++counts.other_tier;
  if (!event.engine_hashes.empty()) delivery.sink.on_removed(delivery.dp_rank, event);
}

void EventReader::deliver_cleared(Delivery& delivery, const EventDraft& draft) {
  EventCounts& counts = delivery.counts;
  const Tier tier = tier_of(draft, counts);
  ++counts.events;
  if (tier != Tier::device) ++counts.other_tier;
  delivery.sink.on_cleared(delivery.dp_rank, tier);
}

void EventReader::read_extra(Delivery& delivery, const EventDraft& draft, BlockStored& event) {
  const std::size_t blocks = event.engine_hashes.size();
  const bool aligned =
      !draft.has_extra || draft.extra_blocks.size() == blocks || draft.extra_blocks.size() == 0;
  if (draft.tainted || !aligned) {
    taint_all(delivery, event);
    return;
  }
  if (draft.extra_blocks.size() == 0) return;

  const std::span<const ExtraItem> all(delivery.batch.extra_items);
  const auto ends = stretch(delivery.batch.extra_ends, draft.extra_blocks);
  digests_.clear();
  digests_.reserve(ends.back() - draft.first_extra_item);
  extra_.clear();
  std::size_t begin = draft.first_extra_item;
  for (std::size_t block = 0; block < blocks; ++block) {
    const auto items = all.subspan(begin, ends[block] - begin);
    begin = ends[block];
    std::optional<std::size_t> salt_item;
    if (block == 0 && !event.parent) {
      salt_item = find_salt(items, event.lora_name);
      if (salt_item && event.salt.empty()) event.salt = items[*salt_item].bytes;
      if (salt_item && event.salt != items[*salt_item].bytes) salt_item.reset();
    }
    const bool unknown = std::any_of(items.begin(), items.end(), [](const ExtraItem& item) {
      return item.kind == Kind::unknown;
    });
    if (unknown) ++delivery.counts.tainted_blocks;
    read_block_extra(items, salt_item, event, event.engine_hashes[block]);
  }
  if (!digests_.empty()) event.extra = extra_;
}

void EventReader::read_block_extra(std::span<const ExtraItem> items,
                                   std::optional<std::size_t> salt_item, const BlockStored& event,
                                   std::uint64_t engine_hash) {
  const std::size_t first = digests_.size();
  for (std::size_t i = 0; i < items.size(); ++i) {
    const ExtraItem& item = items[i];
    if (item.kind == Kind::unknown) {
      digests_.push_back(engine_hash);
    } else if (i != salt_item && (item.kind != Kind::text || item.bytes != event.lora_name)) {
      digests_.push_back(hash_identifier(item.bytes));
    }
  }
  // Within the capacity reserved for the whole event: earlier spans stay valid.
  const std::span<std::uint64_t> own(digests_.data() + first, digests_.size() - first);
  std::sort(own.begin(), own.end());
  extra_.push_back({own});
}

void EventReader::taint_all(Delivery& delivery, BlockStored& event) {
  extra_.clear();
  for (const std::uint64_t& hash : event.engine_hashes) extra_.push_back({{&hash, 1}});
  event.extra = extra_;
  delivery.counts.tainted_blocks += event.engine_hashes.size();
}

}  // namespace kvroute::detail
