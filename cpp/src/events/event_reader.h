#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "events/draft_batch.h"
#include "events/repeat_check.h"
#include "kvroute/events/decoder.h"
#include "kvroute/events/event_sink.h"
#include "kvroute/events/stream_dialect.h"

namespace kvroute::detail {

/// Turns the drafts of one batch into the normal form: decides what each field means, refuses what
/// cannot be indexed, and passes the rest on. Reuses its memory.
class EventReader {
 public:
  EventCounts deliver(const DraftBatch& batch, StreamDialect& dialect, std::uint32_t dp_rank,
                      EventSink& sink);

 private:
  /// One batch on its way to its sink.
  struct Delivery {
    const DraftBatch& batch;
    StreamDialect& dialect;
    std::uint32_t dp_rank;
    EventSink& sink;
    EventCounts counts;
  };

  void deliver_stored(Delivery& delivery, const EventDraft& draft);
  void deliver_removed(Delivery& delivery, const EventDraft& draft);
  void deliver_cleared(Delivery& delivery, const EventDraft& draft);
  [[nodiscard]] bool fills_its_blocks(Delivery& delivery, const EventDraft& draft,
                                      BlockStored& event);

  /// Reads `extra_keys` into `event.extra`, and `event.salt` where they name it.
  void read_extra(Delivery& delivery, const EventDraft& draft, BlockStored& event);
  void read_block_extra(std::span<const ExtraItem> items, std::optional<std::size_t> salt_item,
                        const BlockStored& event, std::uint64_t engine_hash);
  void taint_all(Delivery& delivery, BlockStored& event);

  RepeatCheck repeat_check_;
  std::vector<std::uint64_t> digests_;
  std::vector<BlockExtra> extra_;
};

}  // namespace kvroute::detail
