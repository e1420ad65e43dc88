#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "events/frames.h"
#include "events/log_throttle.h"
#include "kvroute/events/decoder.h"
#include "kvroute/events/sequence_tracker.h"
#include "kvroute/events/subscriber.h"

namespace kvroute::detail {

/// One stream of KV events without its sockets: what is done about each message, connection and
/// silence. Whoever owns it does the I/O: passes in what arrives, sends what
/// `take_replay_request` gives, and leaves live messages unread while `replaying()`.
///
/// A replay has one of two purposes. `fill` brings what is missing from a batch on, `check` begins
/// with the last batch applied, to see after a reconnect whether the publisher is still the same:
/// another content, or none, is another publisher.
class KvStream {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// `config.sink` must be set. Keeps references to `options` and `decoder`.
  KvStream(const KvStreamConfig& config, const SubscriberOptions& options, BatchDecoder& decoder);

  void on_connected(Time now);
  void on_disconnected() noexcept { stats_.connected = false; }
  void on_live(const SequencedPayload& batch, Time now);
  void on_replayed(const SequencedPayload& batch, Time now);
  void on_replay_end(Time now);
  /// Ends a replay that has been silent or has run for too long.
  void on_time(Time now);
  void on_malformed_frames(Time now);

  [[nodiscard]] bool replaying() const noexcept { return replay_.has_value(); }
  /// When `on_time` has to be called at the latest, while `replaying()`.
  [[nodiscard]] Time deadline() const noexcept;
  /// The number to ask a new replay for; what an earlier request still brings is to be dropped.
  [[nodiscard]] std::optional<std::uint64_t> take_replay_request() noexcept;

  [[nodiscard]] const StreamStats& stats() const noexcept { return stats_; }

 private:
  enum class Purpose : std::uint8_t { fill, check };
  struct Replay {
    Purpose purpose;
    std::uint64_t from;
    Time started;
    Time heard;
    bool progressed = false;  ///< has brought a batch that was wanted
    bool failed = false;
  };
  struct HeldBatch {
    std::uint64_t seq;
    std::uint64_t content;
    std::vector<std::byte> payload;
  };

  void begin_replay(Purpose purpose, std::uint64_t from, Time started, Time now);
  void begin_check(Time now);
  void finish_replay(bool told_end, Time now);
  void fail_replay(Time now) noexcept;

  void restart(Time now);
  void give_up(const SequenceStep& gap, InvalidationReason reason, Time now);
  void apply(const SequencedPayload& batch, Time now);
  [[nodiscard]] bool remember_rank(std::uint32_t dp_rank);
  void invalidate(InvalidationReason reason, Time now);
  void warn_of_contents(const EventCounts& counts, Time now);
  [[nodiscard]] std::string titled(std::string_view text) const;

  KvStreamConfig config_;
  const SubscriberOptions& options_;
  BatchDecoder& decoder_;
  StreamDialect dialect_;
  SequenceTracker tracker_;
  StreamStats stats_;
  std::vector<std::uint32_t> told_ranks_;  ///< since their last invalidation
  std::optional<Replay> replay_;
  std::optional<std::uint64_t> request_;
  std::optional<HeldBatch> held_;  ///< the live batch behind the gap that is replayed
  std::optional<Time> cooldown_until_;
  bool ever_connected_ = false;
  bool check_is_due_ = false;
  LogThrottle state_log_;
  LogThrottle content_log_;
};

}  // namespace kvroute::detail
