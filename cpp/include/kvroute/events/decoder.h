#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "kvroute/events/event_sink.h"
#include "kvroute/events/stream_dialect.h"

namespace kvroute {

/// Largest batch that is decoded, and largest message that a subscriber's socket takes.
inline constexpr std::size_t kDefaultMaxPayloadBytes = std::size_t{8} << 20;

/// What became of the events of one or more batches.
struct EventCounts {
  std::uint64_t events = 0;            ///< passed to the sink
  std::uint64_t stored_blocks = 0;     ///< blocks of stored events passed, on every tier
  std::uint64_t removed_blocks = 0;    ///< blocks of removed events passed, on every tier
  std::uint64_t location_updates = 0;  ///< stored events without token ids, passed
  std::uint64_t other_tier = 0;        ///< events of a tier other than device, passed

  std::uint64_t refused_block_size = 0;  ///< stored events of another size than the worker's
  std::uint64_t bad_events = 0;          ///< malformed: a field missing, of a wrong type or range
  std::uint64_t length_mismatch = 0;     ///< token ids do not fill the blocks exactly
  std::uint64_t self_referencing = 0;    ///< a hash twice in one event, or equal to its parent
  std::uint64_t other_groups = 0;        ///< of an attention group that is not indexed
  std::uint64_t unknown_events = 0;      ///< of an unknown kind
  std::uint64_t unknown_keys = 0;        ///< fields of unknown name, ignored
  std::uint64_t unknown_media = 0;       ///< media of unknown name, taken as external
  std::uint64_t tainted_blocks = 0;      ///< with content that is not understood

  EventCounts& operator+=(const EventCounts& other) noexcept;
};

/// Decodes batches of KV events: vLLM from 0.9 to 0.33 (events as arrays or as maps, the batch as
/// array or map), SGLang, the TensorRT-LLM stream and llm-d's simulator.
///
/// `parse` checks a whole payload and takes it apart into flat buffers that are used again for the
/// next one (nothing is allocated per event in the steady state); `deliver` passes its events on.
/// Apart, because the rank, which names the target, comes last in a batch.
///
/// What is understood (sources: vllm/distributed/kv_events.py, sglang disaggregation/kv_events.py,
/// Dynamo lib/kv-router zmq_wire):
/// - event fields by position (tag first, length 5 or more, nil = absent) or by name (`type`);
/// - hashes as unsigned or negative integers or byte strings, each for itself; as first parent, 0
///   means none until the stream has stored a block of that hash (llm-d's simulator);
/// - `extra_keys`: the LoRA's name is stripped; a bare string in the first block of a sequence is
///   the cache salt (of several the last), elsewhere a multimodal identifier; [identifier, offset]
///   is a multimodal object, bytes are prompt embeddings, anything else taints the block; so does
///   any entry of TensorRT-LLM's `mm_keys` for its whole event;
/// - salt from SGLang's `cache_salt`, or `metadata` (also in the place of `lora_name`);
/// - attention groups: full_attention, mla_attention, sink_full_attention, or no kind and group 0
///   or absent; all others are skipped, and what is removed goes by what stored events said.
/// Not understood, hence skipped and counted as bad: token ids as pairs (SGLang's EAGLE bigrams)
/// or texts. Known and ignored: `lookahead_token_ids`, sliding window, ownership, session.
///
/// A bad event is skipped and counted; the rest of its batch counts. Bounds: the payload's size,
/// nesting of 32, no growth by announced lengths, so that the buffers hold at most about thirty
/// times the payload (a batch made for it; four times in a real one) and shrink again afterwards.
/// Not thread-safe; one serves many streams.
class BatchDecoder {
 public:
  explicit BatchDecoder(std::size_t max_payload_bytes = kDefaultMaxPayloadBytes);
  BatchDecoder(const BatchDecoder&) = delete;
  BatchDecoder& operator=(const BatchDecoder&) = delete;
  ~BatchDecoder();

  /// False if the payload is not one well-formed batch (or is too large): nothing of it is passed.
  /// Views into `payload` are kept until `deliver` has returned.
  [[nodiscard]] bool parse(std::span<const std::byte> payload);

  /// The rank that the parsed batch names, if any.
  [[nodiscard]] std::optional<std::uint32_t> dp_rank() const noexcept;

  /// Passes the parsed batch's events to `sink`, in order, under `dp_rank`. Once per `parse`.
  /// What the sink throws passes through; the rest of the batch is then dropped.
  EventCounts deliver(StreamDialect& dialect, std::uint32_t dp_rank, EventSink& sink);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvroute
