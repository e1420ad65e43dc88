#include "events/kv_stream.h"

#include <algorithm>
#include <exception>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace kvroute::detail {
namespace {

/// More ranks than any engine has: a batch that names yet another one is nonsense.
constexpr std::size_t kMaxRanks = 1024;

[[nodiscard]] std::uint64_t content_of(Frame payload) noexcept {
  return XXH3_64bits(payload.data(), payload.size());
}

[[nodiscard]] std::string batches(std::uint64_t count) {
  return std::to_string(count) + (count == 1 ? " batch" : " batches");
}

}  // namespace

KvStream::KvStream(const KvStreamConfig& config, const SubscriberOptions& options,
                   BatchDecoder& decoder)
    : config_(config),
      options_(options),
      decoder_(decoder),
      dialect_(config.block_size),
      state_log_(options.log_interval),
      content_log_(options.log_interval) {}

void KvStream::on_connected(Time now) {
  stats_.connected = true;
  const bool again = std::exchange(ever_connected_, true);
  if (again) {
    ++stats_.reconnects;
    tracker_.reconnected();
    cooldown_until_.reset();
  }
  if (config_.replay_endpoint.empty()) return;
  if (replaying()) {
    check_is_due_ = again;
  } else {
    begin_check(now);
  }
}

void KvStream::on_live(const SequencedPayload& batch, Time now) {
  const std::uint64_t content = content_of(batch.payload);
  SequenceStep step = tracker_.observe(batch.seq, content);
  if (step.verdict == SequenceVerdict::restart) {
    restart(now);
    step = tracker_.observe(batch.seq, content);
  }
  if (step.verdict == SequenceVerdict::apply) {
    apply(batch, now);
    return;
  }
  if (step.verdict == SequenceVerdict::duplicate) {
    ++stats_.duplicates;
    return;
  }
  ++stats_.gaps;
  const bool cooling = cooldown_until_ && now < *cooldown_until_;
  if (!config_.replay_endpoint.empty() && !cooling) {
    held_ = HeldBatch{batch.seq, content, {batch.payload.begin(), batch.payload.end()}};
    begin_replay(Purpose::fill, step.from, now, now);
    return;
  }
  give_up(step, InvalidationReason::gap, now);
  if (tracker_.place(batch.seq, content).verdict == SequenceVerdict::apply) apply(batch, now);
}

void KvStream::on_replayed(const SequencedPayload& batch, Time now) {
  if (!replay_) return;
  replay_->heard = now;
  const std::uint64_t content = content_of(batch.payload);
  if (replay_->purpose == Purpose::check) {
    if (batch.seq < replay_->from) return;
    if (batch.seq == replay_->from) {
      if (!tracker_.is_last_applied(content)) {
        restart(now);
        begin_replay(Purpose::fill, 0, now, now);
        return;
      }
    }
    replay_->purpose = Purpose::fill;
  }
  SequenceStep step = tracker_.place(batch.seq, content);
  if (step.verdict == SequenceVerdict::gap) {
    if (replay_->progressed) {
      // Answers were dropped on their way. What is still kept comes when asked for again.
      begin_replay(Purpose::fill, tracker_.next(), replay_->started, now);
      return;
    }
    fail_replay(now);
    give_up(step, InvalidationReason::replay, now);
    step = tracker_.place(batch.seq, content);
  }
  if (step.verdict != SequenceVerdict::apply) return;
  replay_->progressed = true;
  apply(batch, now);
}

void KvStream::on_replay_end(Time now) {
  if (!replay_) return;
  if (replay_->purpose == Purpose::check) {
    restart(now);
    begin_replay(Purpose::fill, 0, now, now);
    return;
  }
  finish_replay(true, now);
}

void KvStream::on_time(Time now) {
  if (replay_ && now >= deadline()) finish_replay(false, now);
}

void KvStream::on_malformed_frames(Time now) {
  ++stats_.malformed_frames;
  content_log_.log(LogLevel::kWarning, titled("a message that is no event batch was ignored"), now);
}

KvStream::Time KvStream::deadline() const noexcept {
  if (!replay_) return Time::max();
  return std::min(replay_->heard + options_.replay_idle_timeout,
                  replay_->started + options_.replay_limit);
}

std::optional<std::uint64_t> KvStream::take_replay_request() noexcept {
  return std::exchange(request_, std::nullopt);
}

void KvStream::begin_replay(Purpose purpose, std::uint64_t from, Time started, Time now) {
  replay_ = Replay{.purpose = purpose, .from = from, .started = started, .heard = now};
  request_ = from;
  stats_.replaying = true;
  ++stats_.replays;
}

void KvStream::begin_check(Time now) {
  if (tracker_.has_last_applied()) {
    begin_replay(Purpose::check, tracker_.next() - 1, now, now);
  } else {
    begin_replay(Purpose::fill, tracker_.next(), now, now);
  }
}

void KvStream::finish_replay(bool told_end, Time now) {
  if (!told_end) {
    fail_replay(now);
    if (tracker_.next() == 0) stats_.partial = true;
  }
  std::optional<HeldBatch> held = std::exchange(held_, std::nullopt);
  if (held) {
    const SequencedPayload batch{held->seq, held->payload};
    SequenceStep step = tracker_.place(held->seq, held->content);
    if (step.verdict == SequenceVerdict::gap) {
      fail_replay(now);
      give_up(step, InvalidationReason::replay, now);
      step = tracker_.place(held->seq, held->content);
    }
    if (step.verdict == SequenceVerdict::apply) apply(batch, now);
  }
  replay_.reset();
  request_.reset();
  stats_.replaying = false;
  if (std::exchange(check_is_due_, false)) begin_check(now);
}

void KvStream::fail_replay(Time now) noexcept {
  if (std::exchange(replay_->failed, true)) return;
  ++stats_.replay_failures;
  cooldown_until_ = now + options_.replay_cooldown;
}

void KvStream::restart(Time now) {
  ++stats_.restarts;
  tracker_.reset();
  dialect_.reset();
  held_.reset();
  cooldown_until_.reset();
  stats_.partial = false;
  invalidate(InvalidationReason::restart, now);
}

void KvStream::give_up(const SequenceStep& gap, InvalidationReason reason, Time now) {
  stats_.lost += gap.to - gap.from;
  stats_.partial = true;
  tracker_.skip_to(gap.to);
  state_log_.log(LogLevel::kWarning,
                 titled(batches(gap.to - gap.from) + " from " + std::to_string(gap.from) +
                        " on are lost (" + std::string(to_string(reason)) +
                        "); what is known of its cache from now on is true but incomplete"),
                 now);
  invalidate(reason, now);
}

void KvStream::apply(const SequencedPayload& batch, Time now) {
  if (batch.seq == 0) stats_.partial = false;
  const bool parsed = decoder_.parse(batch.payload);
  const std::uint32_t rank = parsed ? decoder_.dp_rank().value_or(config_.dp_rank) : 0;
  if (!parsed || !remember_rank(rank)) {
    ++stats_.undecodable;
    stats_.partial = true;
    content_log_.log(LogLevel::kWarning,
                     titled("batch " + std::to_string(batch.seq) + " (" +
                            std::to_string(batch.payload.size()) + " bytes) cannot be decoded"),
                     now);
    invalidate(InvalidationReason::undecodable, now);
    return;
  }
  ++stats_.batches;
  stats_.bytes += batch.payload.size();
  stats_.last_seq = batch.seq;
  try {
    const EventCounts counts = decoder_.deliver(dialect_, rank, *config_.sink);
    config_.sink->on_batch_end(rank, batch.seq);
    stats_.events += counts;
    warn_of_contents(counts, now);
  } catch (const std::exception& error) {
    ++stats_.sink_errors;
    stats_.partial = true;
    state_log_.log(LogLevel::kError, titled("taking its events failed: ") + error.what(), now);
    invalidate(InvalidationReason::sink_error, now);
  }
}

bool KvStream::remember_rank(std::uint32_t dp_rank) {
  if (std::find(told_ranks_.begin(), told_ranks_.end(), dp_rank) != told_ranks_.end()) return true;
  if (told_ranks_.size() == kMaxRanks) return false;
  told_ranks_.push_back(dp_rank);
  return true;
}

void KvStream::invalidate(InvalidationReason reason, Time now) {
  for (const std::uint32_t rank : std::exchange(told_ranks_, {})) {
    ++stats_.invalidations;
    state_log_.log(LogLevel::kWarning,
                   titled("what is known of rank " + std::to_string(rank) + " is forgotten (" +
                          std::string(to_string(reason)) + ")"),
                   now);
    try {
      config_.sink->on_invalidated(rank, reason);
    } catch (const std::exception& error) {
      ++stats_.sink_errors;
      state_log_.log(LogLevel::kError, titled("forgetting it failed: ") + error.what(), now);
    }
  }
}

void KvStream::warn_of_contents(const EventCounts& counts, Time now) {
  if (counts.refused_block_size > 0) {
    content_log_.log(LogLevel::kWarning,
                     titled("stored events of another block size than the worker's " +
                            std::to_string(config_.block_size) + " are refused"),
                     now);
  } else if (counts.bad_events > 0) {
    content_log_.log(LogLevel::kWarning, titled("malformed events are skipped"), now);
  }
}

std::string KvStream::titled(std::string_view text) const {
  const std::string& name = config_.label.empty() ? config_.endpoint : config_.label;
  return "KV events of " + name + ": " + std::string(text);
}

}  // namespace kvroute::detail
