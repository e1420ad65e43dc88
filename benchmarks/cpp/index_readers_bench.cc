// Lookups beside a writer: how many a second one and two threads get while another stores and
// removes at full speed, how long the slow ones take, and how fast the writer is meanwhile.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "index_workload.h"
#include "kvroute/index/prefix_tree.h"

namespace kvroute::bench {
namespace {

using Clock = std::chrono::steady_clock;

double nanoseconds(Clock::duration time) {
  return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
}

std::size_t deepest(const Overlaps& overlaps) {
  return *std::max_element(overlaps.held.begin(), overlaps.held.end());
}

/// Requests that the first half of the events answers whole: the writer leaves these alone.
std::vector<std::vector<std::uint64_t>> settled(const PrefixTree& tree, const Workload& workload) {
  std::vector<std::vector<std::uint64_t>> settled;
  Overlaps overlaps;
  for (const auto& labels : workload.lookups) {
    tree.match(labels, overlaps);
    if (deepest(overlaps) == labels.size()) settled.push_back(labels);
  }
  return settled;
}

/// Fill A; the writer stores its second half and removes it again, `rounds` times.
void match_beside_writer(benchmark::State& state) {
  constexpr int kRounds = 10;
  const auto readers = static_cast<std::size_t>(state.range(0));
  Workload workload =
      make_workload(Fill::kConversations, static_cast<std::uint32_t>(state.range(1)), false);
  const std::size_t half = workload.events.size() / 2;
  PrefixTree tree;
  for (std::size_t i = 0; i < half; ++i) {
    const StoreEvent& event = workload.events[i];
    tree.store(event.slot, event.parent, event.names, event.labels);
  }
  const auto requests = settled(tree, workload);
  std::size_t written = 0;
  std::vector<std::vector<std::uint64_t>> removals;
  for (std::size_t i = half; i < workload.events.size(); ++i) {
    const auto& names = workload.events[i].names;
    written += 2 * kRounds * names.size();
    removals.emplace_back(names.rbegin(), names.rend());
  }

  std::vector<double> times;
  std::atomic<bool> right{true};
  double seconds = 0;
  for (auto _ : state) {
    std::atomic<bool> done{false};
    std::vector<std::vector<double>> times_of(readers);
    std::vector<std::thread> threads;
    for (std::size_t reader = 0; reader < readers; ++reader) {
      times_of[reader].reserve(std::size_t{1} << 23);  // not while it is measured
    }
    for (std::size_t reader = 0; reader < readers; ++reader) {
      threads.emplace_back([&, reader] {
        Overlaps overlaps;
        std::size_t next = reader * requests.size() / readers;
        while (!done.load(std::memory_order_relaxed)) {
          const auto& labels = requests[next++ % requests.size()];
          const auto begin = Clock::now();
          tree.match(labels, overlaps);
          times_of[reader].push_back(nanoseconds(Clock::now() - begin));
          if (deepest(overlaps) != labels.size()) right.store(false);
        }
      });
    }
    const auto begin = Clock::now();
    for (int round = 0; round < kRounds; ++round) {
      for (std::size_t i = half; i < workload.events.size(); ++i) {
        const StoreEvent& event = workload.events[i];
        tree.store(event.slot, event.parent, event.names, event.labels);
      }
      for (std::size_t i = workload.events.size(); i-- > half;) {
        tree.remove(workload.events[i].slot, removals[i - half]);
      }
    }
    const double took = nanoseconds(Clock::now() - begin) * 1e-9;
    done.store(true);
    for (auto& thread : threads) thread.join();
    state.SetIterationTime(took);
    seconds += took;
    for (const auto& some : times_of) times.insert(times.end(), some.begin(), some.end());
  }
  if (!right) state.SkipWithError("a match beside the writer is wrong");
  const auto rounds = static_cast<double>(state.iterations());
  state.counters["lookups_per_s"] = static_cast<double>(times.size()) / seconds;
  state.counters["written_per_s"] = static_cast<double>(written) * rounds / seconds;
  if (times.empty()) return;
  std::sort(times.begin(), times.end());
  state.counters["p50_ns"] = times[times.size() / 2];
  state.counters["p99_ns"] = times[times.size() * 99 / 100];
  state.counters["max_us"] = times.back() * 1e-3;
}
BENCHMARK(match_beside_writer)
    ->ArgNames({"readers", "slots"})
    ->ArgsProduct({{1, 2}, {64, 512}})
    ->UseManualTime()
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace kvroute::bench
