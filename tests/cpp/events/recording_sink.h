#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "kvroute/events/event_sink.h"

namespace kvroute::testing {

/// One call to a sink, copied.
struct SinkCall {
  enum class Kind { stored, removed, cleared, invalidated, batch_end };
  Kind kind;
  std::uint32_t dp_rank = 0;
  std::vector<std::uint64_t> hashes{};
  std::optional<std::uint64_t> parent{};
  std::vector<std::uint32_t> tokens{};
  std::uint32_t block_size = 0;
  Tier tier = Tier::device;
  std::string lora_name{};
  std::optional<std::int64_t> lora_id{};
  std::string salt{};
  std::vector<std::vector<std::uint64_t>> extra{};
  std::optional<std::uint32_t> group_idx{};
  InvalidationReason reason = InvalidationReason::gap;
  std::uint64_t seq = 0;
};

/// Keeps what it is told, for one thread to tell and another to await.
class RecordingSink : public EventSink {
 public:
  void on_stored(std::uint32_t dp_rank, const BlockStored& event) override {
    SinkCall call{.kind = SinkCall::Kind::stored, .dp_rank = dp_rank};
    call.hashes.assign(event.engine_hashes.begin(), event.engine_hashes.end());
    call.parent = event.parent;
    call.tokens.assign(event.token_ids.begin(), event.token_ids.end());
    call.block_size = event.block_size;
    call.tier = event.tier;
    call.lora_name = event.lora_name;
    call.lora_id = event.lora_id;
    call.salt = event.salt;
    for (const BlockExtra& extra : event.extra) {
      call.extra.emplace_back(extra.digests.begin(), extra.digests.end());
    }
    call.group_idx = event.group_idx;
    add(std::move(call));
  }
  void on_removed(std::uint32_t dp_rank, const BlockRemoved& event) override {
    SinkCall call{.kind = SinkCall::Kind::removed, .dp_rank = dp_rank};
    call.hashes.assign(event.engine_hashes.begin(), event.engine_hashes.end());
    call.tier = event.tier;
    call.group_idx = event.group_idx;
    add(std::move(call));
  }
  void on_cleared(std::uint32_t dp_rank, Tier tier) override {
    add({.kind = SinkCall::Kind::cleared, .dp_rank = dp_rank, .tier = tier});
  }
  void on_invalidated(std::uint32_t dp_rank, InvalidationReason reason) override {
    add({.kind = SinkCall::Kind::invalidated, .dp_rank = dp_rank, .reason = reason});
  }
  void on_batch_end(std::uint32_t dp_rank, std::uint64_t seq) override {
    add({.kind = SinkCall::Kind::batch_end, .dp_rank = dp_rank, .seq = seq});
  }

  [[nodiscard]] std::vector<SinkCall> calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  [[nodiscard]] std::vector<SinkCall> calls(SinkCall::Kind kind) const {
    std::vector<SinkCall> wanted;
    for (const SinkCall& call : calls()) {
      if (call.kind == kind) wanted.push_back(call);
    }
    return wanted;
  }
  /// Sequence numbers of the batches that were passed, in order.
  [[nodiscard]] std::vector<std::uint64_t> sequence() const {
    std::vector<std::uint64_t> numbers;
    for (const SinkCall& call : calls(SinkCall::Kind::batch_end)) numbers.push_back(call.seq);
    return numbers;
  }
  /// The sequence as one text, with what happened between: "0 1 !gap 5".
  [[nodiscard]] std::string story() const {
    std::string text;
    for (const SinkCall& call : calls()) {
      if (call.kind == SinkCall::Kind::batch_end) {
        text += (text.empty() ? "" : " ") + std::to_string(call.seq);
      } else if (call.kind == SinkCall::Kind::invalidated) {
        text += (text.empty() ? "!" : " !") + std::string(to_string(call.reason));
      }
    }
    return text;
  }

  /// Waits until `holds()`, which is looked at after each call. False after ten seconds.
  [[nodiscard]] bool await(const std::function<bool()>& holds) {
    constexpr auto kPatience = std::chrono::seconds(10);
    const auto end = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      std::size_t seen = 0;
      {
        const std::lock_guard lock(mutex_);
        seen = calls_.size();
      }
      if (holds()) return true;
      std::unique_lock lock(mutex_);
      if (!told_.wait_until(lock, end, [&] { return calls_.size() > seen; })) return false;
    }
  }
  [[nodiscard]] bool await_story(const std::string& wanted) {
    return await([&] { return story() == wanted; });
  }

 private:
  void add(SinkCall call) {
    {
      const std::lock_guard lock(mutex_);
      calls_.push_back(std::move(call));
    }
    told_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable told_;
  std::vector<SinkCall> calls_;
};

}  // namespace kvroute::testing
