#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "kvroute/events/decoder.h"
#include "kvroute/events/event_sink.h"

namespace kvroute {

using StreamId = std::uint64_t;

/// One engine's stream of KV events: one publisher, hence one data-parallel rank.
struct KvStreamConfig {
  /// ZMQ endpoint of the engine's PUB socket, as "tcp://127.0.0.1:5557". With a `*` (or `bind`)
  /// our side binds and the engine connects; port 0 or `*` then lets the system choose.
  std::string endpoint;
  bool bind = false;
  /// The engine's replay ROUTER socket; empty for none. Port rules for ranks are the caller's.
  std::string replay_endpoint;
  std::string topic;                ///< prefix of the topics to take; empty takes all
  std::uint32_t block_size = 0;     ///< the worker's; events of another are refused. 0: any
  std::uint32_t dp_rank = 0;        ///< where a batch does not name its own
  std::string label;                ///< names the stream in the log, as `"w0" rank 1`
  std::shared_ptr<EventSink> sink;  ///< required
};

/// One engine's stream of load reports (`parse_load_report`): the newest wins.
struct LoadStreamConfig {
  std::string endpoint;
  bool bind = false;
  std::string topic;
  std::uint32_t dp_rank = 0;
  std::string label;
  std::shared_ptr<LoadSink> sink;  ///< required
};

/// Bounds and times of all streams of one subscriber.
struct SubscriberOptions {
  std::size_t max_message_bytes = kDefaultMaxPayloadBytes;  ///< a larger frame drops its connection
  int receive_queue = 16384;  ///< messages that a socket holds for us; beyond, the publisher's does
  std::chrono::milliseconds replay_idle_timeout{2000};  ///< silence that ends a replay
  std::chrono::milliseconds replay_limit{60000};        ///< longest replay as a whole
  std::chrono::milliseconds replay_cooldown{30000};  ///< from a failed replay to the next request
  std::chrono::milliseconds log_interval{10000};     ///< between two records of one stream
};

/// One stream so far. Counters never fall; they live as long as the stream.
struct StreamStats {
  bool connected = false;  ///< the publisher's socket is connected (ZMTP handshake done)
  bool replaying = false;  ///< a replay is being awaited
  bool partial = false;    ///< the publisher's past, or a part of it, is not known since the start,
                           ///< restart or invalidation; what is known is true

  std::uint64_t batches = 0;  ///< decoded and passed; of a load stream: reports passed
  std::uint64_t bytes = 0;    ///< of the payloads of these
  EventCounts events;         ///< what became of their events

  std::uint64_t gaps = 0;              ///< jumps of the sequence number
  std::uint64_t replays = 0;           ///< replays that were asked for
  std::uint64_t replay_failures = 0;   ///< of these: ended without bringing what was missing
  std::uint64_t lost = 0;              ///< batches given up
  std::uint64_t restarts = 0;          ///< another engine process was noticed behind the endpoint
  std::uint64_t invalidations = 0;     ///< on_invalidated calls
  std::uint64_t duplicates = 0;        ///< batches already applied
  std::uint64_t reconnects = 0;        ///< connections after the first
  std::uint64_t undecodable = 0;       ///< batches (or load reports) that could not be decoded
  std::uint64_t malformed_frames = 0;  ///< messages that are not [topic, sequence, payload]
  std::uint64_t superseded = 0;        ///< load reports skipped for a newer one
  std::uint64_t sink_errors = 0;       ///< batches in which the sink threw

  std::optional<std::uint64_t> last_seq;  ///< last batch applied
};

/// Receives the streams of many engines over ZMQ: one native thread, which knows no Python, polls
/// all of them, decodes, checks sequence numbers and calls the sinks.
///
/// The protocol is vLLM's (vllm/distributed/kv_events.py 0.9 to 0.33), which SGLang and
/// TensorRT-LLM share: PUB frames [topic, sequence (8 bytes big-endian, more may follow), payload];
/// the replay ROUTER takes [empty, first wanted] from a DEALER and answers [empty, sequence,
/// payload]... or [empty, topic, sequence, payload]..., ended by sequence 2^64 - 1 or an empty
/// payload.
///
/// What is done about a stream that is not whole:
/// - At its first connection the replay is asked for from 0, so that a router that starts after its
///   engines learns the past. Live batches wait in their socket's queue during a replay.
/// - A gap asks for a replay from the first missing batch. Where that does not bring everything (no
///   endpoint, cooldown, silence, ended early, began late) the sink is told `on_invalidated` and
///   the stream goes on from what there is: incomplete but true.
/// - A sequence number that falls back is a restart: invalidated, then replayed from 0.
/// - After a reconnect the last applied batch is asked for again: if it is no longer there, or has
///   other content, the engine has restarted unseen. Without a replay endpoint such a restart is
///   noticed only when the numbers fall back or jump.
///
/// No stream can starve the others: each gets a bounded number of messages per round. A peer can
/// make the process hold at most `receive_queue` messages of `max_message_bytes` per socket (the
/// thread drains them as they come); libzmq itself does not bound the frames of one multipart
/// message.
///
/// Thread-safe. The destructor closes.
class EventSubscriber {
 public:
  explicit EventSubscriber(SubscriberOptions options = {});
  EventSubscriber(const EventSubscriber&) = delete;
  EventSubscriber& operator=(const EventSubscriber&) = delete;
  ~EventSubscriber();

  /// Opens a stream. Returns at once; the connection is made (and made again) in the background.
  /// \throws InvalidArgument for a malformed or inproc endpoint, an address that cannot be bound,
  /// a missing sink, or after `close`.
  StreamId add_stream(const KvStreamConfig& config);
  StreamId add_stream(const LoadStreamConfig& config);

  /// Closes a stream. When this returns no call to its sink runs or will come, and its sink has
  /// been let go. False if there is no such stream (any more). Waits for at most the sink call that
  /// is running: the caller must not hold a lock that a sink takes, nor be a sink.
  /// \throws InvalidArgument when called from a sink.
  bool remove_stream(StreamId id);

  /// Ends the thread and all streams; no sink is called afterwards. May be called again, and from
  /// several threads: each returns when it is done. Same conditions as `remove_stream`.
  void close();

  /// Empty if there is no such stream (any more).
  [[nodiscard]] std::optional<StreamStats> stats(StreamId id) const;

  /// The endpoint as bound or connected to: with the port that the system chose. Empty if there is
  /// no such stream.
  [[nodiscard]] std::optional<std::string> endpoint(StreamId id) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvroute
