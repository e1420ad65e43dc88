// How fast KV events are taken in: decoded alone, and through ZMQ sockets on the loopback.
//   build/release/.../events_bench --benchmark_counters_tabular=true
// `items_per_second` counts blocks of 16 tokens.

#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <msgpack.hpp>
#include <span>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "kvroute/events/decoder.h"
#include "kvroute/events/subscriber.h"

namespace kvroute {
namespace {

constexpr std::uint32_t kBlockSize = 16;

/// Takes what an index would have to read, and no more.
class CountingSink final : public EventSink {
 public:
  void on_stored(std::uint32_t, const BlockStored& event) override {
    blocks_.fetch_add(event.engine_hashes.size(), std::memory_order_relaxed);
    benchmark::DoNotOptimize(event.token_ids.data());
  }
  void on_removed(std::uint32_t, const BlockRemoved& event) override {
    blocks_.fetch_add(event.engine_hashes.size(), std::memory_order_relaxed);
  }
  void on_cleared(std::uint32_t, Tier) override {}
  void on_invalidated(std::uint32_t, InvalidationReason) override { invalidated_ = true; }

  [[nodiscard]] std::uint64_t blocks() const { return blocks_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool invalidated() const { return invalidated_; }

 private:
  std::atomic<std::uint64_t> blocks_{0};
  std::atomic<bool> invalidated_{false};
};

/// A batch of one stored event of `blocks` blocks, with token ids up to 128,000 as models have.
std::string stored_batch(std::uint32_t blocks, bool as_map) {
  std::vector<std::uint64_t> hashes;
  std::vector<std::uint32_t> tokens;
  std::uint64_t state = blocks;
  for (std::uint32_t i = 0; i < blocks; ++i) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    hashes.push_back(state);
    for (std::uint32_t token = 0; token < kBlockSize; ++token) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      tokens.push_back(static_cast<std::uint32_t>((state >> 33U) % 128000U));
    }
  }
  msgpack::sbuffer buffer;
  msgpack::packer<msgpack::sbuffer> packer(buffer);
  packer.pack_array(3);
  packer.pack(1.5);
  packer.pack_array(1);
  const auto key = [&](const char* name) {
    if (as_map) packer.pack(name);
  };
  if (as_map) {
    packer.pack_map(8);
  } else {
    packer.pack_array(8);
  }
  key("type");
  packer.pack("BlockStored");
  key("block_hashes");
  packer.pack(hashes);
  key("parent_block_hash");
  packer.pack(std::uint64_t{12345});
  key("token_ids");
  packer.pack(tokens);
  key("block_size");
  packer.pack(kBlockSize);
  key("lora_id");
  packer.pack_nil();
  key("medium");
  packer.pack("GPU");
  key("lora_name");
  packer.pack_nil();
  packer.pack(0);
  return {buffer.data(), buffer.size()};
}

void decode(benchmark::State& state) {
  const auto blocks = static_cast<std::uint32_t>(state.range(0));
  const std::string batch = stored_batch(blocks, state.range(1) != 0);
  const std::span<const std::byte> payload(reinterpret_cast<const std::byte*>(batch.data()),
                                           batch.size());
  BatchDecoder decoder;
  StreamDialect dialect(kBlockSize);
  CountingSink sink;
  for (auto _ : state) {
    if (!decoder.parse(payload)) state.SkipWithError("not decoded");
    decoder.deliver(dialect, 0, sink);
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(sink.blocks()));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(batch.size()));
}
BENCHMARK(decode)
    ->ArgNames({"blocks", "map"})
    ->Args({1, 1})
    ->Args({16, 1})
    ->Args({16, 0})
    ->Args({1000, 1});

/// From a PUB socket's `send` to the sink, the publisher on a thread of its own.
void through_zmq(benchmark::State& state) {
  const auto blocks = static_cast<std::uint32_t>(state.range(0));
  const std::string batch = stored_batch(blocks, true);
  const std::uint64_t batches = 4'000'000 / (blocks * 16 + 64);

  zmq::context_t context;
  zmq::socket_t publisher(context, zmq::socket_type::xpub);
  publisher.set(zmq::sockopt::linger, 0);
  publisher.set(zmq::sockopt::sndhwm, 0);
  publisher.bind("tcp://127.0.0.1:*");
  const auto sink = std::make_shared<CountingSink>();
  EventSubscriber subscriber;
  KvStreamConfig config;
  config.endpoint = publisher.get(zmq::sockopt::last_endpoint);
  config.block_size = kBlockSize;
  config.sink = sink;
  subscriber.add_stream(config);
  zmq::message_t subscription;
  if (!publisher.recv(subscription)) state.SkipWithError("no subscriber");

  std::uint64_t seq = 0;
  for (auto _ : state) {
    const std::uint64_t wanted = sink->blocks() + batches * blocks;
    for (std::uint64_t i = 0; i < batches; ++i, ++seq) {
      std::uint64_t number = __builtin_bswap64(seq);
      publisher.send(zmq::message_t(), zmq::send_flags::sndmore);
      publisher.send(zmq::buffer(&number, sizeof(number)), zmq::send_flags::sndmore);
      publisher.send(zmq::buffer(batch));
    }
    while (sink->blocks() < wanted) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  if (sink->invalidated()) state.SkipWithError("batches were lost");
  state.SetItemsProcessed(static_cast<std::int64_t>(sink->blocks()));
}
BENCHMARK(through_zmq)
    ->ArgName("blocks")
    ->Arg(1)
    ->Arg(16)
    ->Arg(1000)
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace
}  // namespace kvroute
