#include "kvroute/events/decoder.h"

#include <msgpack.hpp>

#include "events/batch_visitor.h"
#include "events/draft_batch.h"
#include "events/event_reader.h"

namespace kvroute {

EventCounts& EventCounts::operator+=(const EventCounts& other) noexcept {
  events += other.events;
  stored_blocks += other.stored_blocks;
  removed_blocks += other.removed_blocks;
  location_updates += other.location_updates;
  other_tier += other.other_tier;
  refused_block_size += other.refused_block_size;
  bad_events += other.bad_events;
  length_mismatch += other.length_mismatch;
  self_referencing += other.self_referencing;
  other_groups += other.other_groups;
  unknown_events += other.unknown_events;
  unknown_keys += other.unknown_keys;
  unknown_media += other.unknown_media;
  tainted_blocks += other.tainted_blocks;
  return *this;
}

class BatchDecoder::Impl {
 public:
  explicit Impl(std::size_t max_payload_bytes) : max_payload_bytes_(max_payload_bytes) {}

  [[nodiscard]] bool parse(std::span<const std::byte> payload) {
    batch_.clear();
    if (payload.empty() || payload.size() > max_payload_bytes_) return false;
    detail::BatchVisitor visitor(batch_);
    std::size_t offset = 0;
    const auto* text = reinterpret_cast<const char*>(payload.data());
    const bool whole = msgpack::parse(text, payload.size(), offset, visitor);
    if (whole && offset == payload.size() && batch_.has_events) return true;
    batch_.clear();
    return false;
  }

  [[nodiscard]] const detail::DraftBatch& batch() const noexcept { return batch_; }

  EventCounts deliver(StreamDialect& dialect, std::uint32_t dp_rank, EventSink& sink) {
    return reader_.deliver(batch_, dialect, dp_rank, sink);
  }

 private:
  std::size_t max_payload_bytes_;
  detail::DraftBatch batch_;
  detail::EventReader reader_;
};

BatchDecoder::BatchDecoder(std::size_t max_payload_bytes)
    : impl_(std::make_unique<Impl>(max_payload_bytes)) {}

BatchDecoder::~BatchDecoder() = default;

bool BatchDecoder::parse(std::span<const std::byte> payload) { return impl_->parse(payload); }

std::optional<std::uint32_t> BatchDecoder::dp_rank() const noexcept {
  return impl_->batch().dp_rank;
}

EventCounts BatchDecoder::deliver(StreamDialect& dialect, std::uint32_t dp_rank, EventSink& sink) {
  return impl_->deliver(dialect, dp_rank, sink);
}

}  // namespace kvroute
