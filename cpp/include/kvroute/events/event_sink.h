#pragma once

#include <cstdint>
#include <string_view>

#include "kvroute/events/kv_event.h"

namespace kvroute {

/// Why what a stream has told so far can no longer be trusted.
enum class InvalidationReason : std::uint8_t {
  gap,          ///< batches are lost: no replay endpoint, or a replay that failed less than
                ///< `replay_cooldown` ago
  replay,       ///< batches are lost: the replay ended early, began late, or did not answer
  restart,      ///< another engine process publishes now; its replay follows where there is one
  undecodable,  ///< a batch could not be decoded, so whatever it said is lost
  sink_error,   ///< a sink's call threw
};

/// "gap", "replay", "restart", "undecodable", "sink_error".
[[nodiscard]] std::string_view to_string(InvalidationReason reason) noexcept;

/// Takes one worker's KV events in normal form.
///
/// `dp_rank` is the batch's own rank, or its stream's where the batch names none. It comes from the
/// engine and may be one that the worker was not added with: the sink decides (and should ignore
/// and count it).
///
/// Called from the subscriber's one thread, which never holds a lock of its own meanwhile; a sink
/// that serves one worker is never entered twice at once by one subscriber. Calls must not block
/// for long (all streams wait) and should not throw: what they throw is caught, counted and
/// followed by `on_invalidated(sink_error)`. They must not call `EventSubscriber::remove_stream` or
/// `close`.
class EventSink {
 public:
  EventSink() = default;
  EventSink(const EventSink&) = delete;
  EventSink& operator=(const EventSink&) = delete;
  virtual ~EventSink() = default;

  virtual void on_stored(std::uint32_t dp_rank, const BlockStored& event) = 0;
  virtual void on_removed(std::uint32_t dp_rank, const BlockRemoved& event) = 0;

  /// The engine has dropped every block of this rank on this tier. An event that names none is of
  /// the device, as vLLM means it: what it has offloaded survives. (SGLang's is the same event, but
  /// it drops its host memory too.)
  virtual void on_cleared(std::uint32_t dp_rank, Tier tier) = 0;

  /// What this rank was told to hold, on every tier, is to be forgotten: it may be wrong. What
  /// comes afterwards is true again, though not complete where a replay could not be had. Called
  /// only for a rank that has been told something since the last invalidation.
  virtual void on_invalidated(std::uint32_t dp_rank, InvalidationReason reason) = 0;

  /// All events of batch `seq` have been passed. Also after an empty batch.
  virtual void on_batch_end(std::uint32_t dp_rank, std::uint64_t seq) {
    static_cast<void>(dp_rank);
    static_cast<void>(seq);
  }
};

/// What an engine says of its own load.
struct LoadReport {
  double kv_usage = 0.0;      ///< share of KV blocks in use, 0 to 1
  std::uint32_t waiting = 0;  ///< requests not yet scheduled
};

/// Takes one worker's load reports. Called as `EventSink` is.
class LoadSink {
 public:
  LoadSink() = default;
  LoadSink(const LoadSink&) = delete;
  LoadSink& operator=(const LoadSink&) = delete;
  virtual ~LoadSink() = default;

  virtual void on_load(std::uint32_t dp_rank, const LoadReport& report) = 0;
};

}  // namespace kvroute
