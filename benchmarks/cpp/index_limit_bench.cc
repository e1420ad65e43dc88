// Stores at the memory limit: how long the slowest take when each has to forget as much as it
// adds, and what a slot's release costs those who write meanwhile.

#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kvroute/base/random.h"
#include "kvroute/index/prefix_tree.h"

namespace kvroute::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kSlots = 64;
constexpr std::size_t kBlocks = 256;  // of an event

double thread_microseconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
}

double microseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

void report(benchmark::State& state, const std::string& what, std::vector<double> times) {
  if (times.empty()) return;
  std::sort(times.begin(), times.end());
  state.counters[what + "_p50_us"] = times[times.size() / 2];
  state.counters[what + "_p999_us"] = times[times.size() * 999 / 1000];
  state.counters[what + "_max_us"] = times.back();
}

/// One event after the other with blocks that nobody has seen, below a beginning that 16 share.
class Churn {
 public:
  void store_next(PrefixTree& tree) {
    labels_.clear();
    for (std::size_t i = 0; i < kBlocks; ++i) {
      const std::uint64_t sequence = i < kBlocks / 4 ? events_ / 16 : events_;
      labels_.push_back((sequence * kBlocks + i + (i < kBlocks / 4 ? kShared : 0)) *
                        0x9e3779b97f4a7c15ULL);
    }
    const auto slot = static_cast<Slot>(random_.below(kSlots));
    const double begin = thread_microseconds();
    tree.store(slot, std::nullopt, labels_, labels_);
    times_.push_back(thread_microseconds() - begin);
    ++events_;
  }
  [[nodiscard]] std::vector<double> take_times() { return std::exchange(times_, {}); }
  [[nodiscard]] const std::vector<std::uint64_t>& last() const { return labels_; }

 private:
  static constexpr std::uint64_t kShared = std::uint64_t{1} << 60;

  std::uint64_t events_ = 0;
  std::vector<std::uint64_t> labels_;
  std::vector<double> times_;
  Random random_{7};
};

/// Processor time of each store once the limit is reached, and how long a reader's matches take.
void store_at_limit(benchmark::State& state) {
  const auto limit = static_cast<std::size_t>(state.range(0)) << 20;
  for (auto _ : state) {
    IndexOptions options;
    options.memory_limit = limit;
    PrefixTree tree(options);
    Churn churn;
    while (tree.stats().forgotten_exact == 0) {
      for (int i = 0; i < 64; ++i) churn.store_next(tree);
    }
    report(state, "filling", churn.take_times());
    const std::vector<std::uint64_t> asked = churn.last();
    std::atomic<bool> done{false};
    std::vector<double> matches;
    matches.reserve(std::size_t{1} << 24);
    std::thread reading([&] {
      Overlaps overlaps;
      while (!done.load(std::memory_order_relaxed)) {
        const auto begin = Clock::now();
        tree.match(asked, overlaps);
        matches.push_back(microseconds_since(begin));
      }
    });
    const auto stores = static_cast<std::size_t>(state.range(1));
    for (std::size_t i = 0; i < stores; ++i) churn.store_next(tree);
    done.store(true);
    reading.join();
    report(state, "store", churn.take_times());
    report(state, "match", std::move(matches));
    if (tree.stats().bytes.total() > limit) state.SkipWithError("the limit is exceeded");
  }
}

/// A slot of many blocks is released while another thread stores: its longest wait for its turn.
void release_beside_writer(benchmark::State& state) {
  const auto sequences = static_cast<std::uint64_t>(state.range(0));
  for (auto _ : state) {
    PrefixTree tree;
    std::vector<std::uint64_t> labels(1'000);
    for (std::uint64_t sequence = 0; sequence < sequences; ++sequence) {
      for (std::size_t i = 0; i < labels.size(); ++i) {
        labels[i] = (sequence * labels.size() + i + 1) * 0x9e3779b97f4a7c15ULL;
      }
      tree.store(0, std::nullopt, labels, labels);
    }
    std::atomic<bool> done{false};
    std::vector<double> waits;
    waits.reserve(std::size_t{1} << 22);
    std::thread writing([&] {
      const std::vector<std::uint64_t> one{1};
      while (!done.load(std::memory_order_relaxed)) {
        const auto begin = Clock::now();
        tree.store(1, std::nullopt, one, one);
        waits.push_back(microseconds_since(begin));
        tree.remove(1, one);
      }
    });
    const auto begin = Clock::now();
    tree.release_slot(0);
    state.SetIterationTime(microseconds_since(begin) * 1e-6);
    done.store(true);
    writing.join();
    if (tree.stats().blocks > 1) state.SkipWithError("a block is left");
    report(state, "wait", std::move(waits));
  }
}

BENCHMARK(store_at_limit)
    ->ArgNames({"mib", "stores"})
    ->Args({256, 20'000})
    ->Args({1'024, 20'000})
    ->Iterations(1)
    ->Unit(benchmark::kSecond);
BENCHMARK(release_beside_writer)
    ->ArgName("sequences")
    ->Arg(1'300)
    ->Iterations(1)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace kvroute::bench
