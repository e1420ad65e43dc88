// The prefix tree under the four fills of index_workload.h: what a match, a store and a removal
// cost, and how many bytes a (block, slot) pair takes.

#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "index_workload.h"
#include "kvroute/index/prefix_tree.h"
#include "workload_traces.h"

namespace kvroute::bench {
namespace {

using Clock = std::chrono::steady_clock;

/// Processor time of this thread in seconds: stores and removals wait for nobody, and machines
/// that run benchmarks are seldom idle.
double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double nanoseconds(Clock::duration time) {
  return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
}

Fill fill_of(const benchmark::State& state) { return static_cast<Fill>(state.range(0)); }
std::uint32_t slots_of(const benchmark::State& state) {
  return static_cast<std::uint32_t>(state.range(1));
}

void apply(PrefixTree& tree, const Workload& workload) {
  for (const StoreEvent& event : workload.events) {
    tree.store(event.slot, event.parent, event.names, event.labels);
  }
}

/// The workload last asked for: fills are large, and benchmarks of one fill follow each other.
const Workload& workload_of(Fill fill, std::uint32_t slots, bool own_names) {
  static std::tuple<Fill, std::uint32_t, bool> key;
  static std::unique_ptr<Workload> workload;
  if (workload == nullptr || key != std::tuple(fill, slots, own_names)) {
    workload.reset();
    workload = std::make_unique<Workload>(make_workload(fill, slots, own_names));
    key = {fill, slots, own_names};
  }
  return *workload;
}

void match(benchmark::State& state) {
  const Workload& workload = workload_of(fill_of(state), slots_of(state), false);
  PrefixTree tree;
  apply(tree, workload);
  Overlaps overlaps;
  std::vector<double> times;
  std::uint64_t checksum = 0;
  std::size_t next = 0;
  for (auto _ : state) {
    const auto& labels = workload.lookups[next++ % workload.lookups.size()];
    const auto begin = Clock::now();
    tree.match(labels, overlaps);
    times.push_back(nanoseconds(Clock::now() - begin));
    checksum += *std::max_element(overlaps.held.begin(), overlaps.held.end());
  }
  // Everything asked was stored: some slot holds each request whole.
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i < next; ++i) {
    expected += workload.lookups[i % workload.lookups.size()].size();
  }
  if (checksum != expected) state.SkipWithError("a match is wrong");
  std::sort(times.begin(), times.end());
  state.counters["p50_ns"] = times[times.size() / 2];
  state.counters["p99_ns"] = times[times.size() * 99 / 100];
}

void store(benchmark::State& state) {
  const bool own_names = state.range(2) != 0;
  const Workload& workload = workload_of(fill_of(state), slots_of(state), own_names);
  IndexStats stats;
  for (auto _ : state) {
    auto tree = std::make_unique<PrefixTree>();
    const double begin = thread_seconds();
    apply(*tree, workload);
    state.SetIterationTime(thread_seconds() - begin);
    stats = tree->stats();
  }
  const auto holders = static_cast<double>(workload.block_holders);
  if (stats.held_exact != workload.block_holders) state.SkipWithError("a store is wrong");
  state.counters["blocks_per_s"] =
      benchmark::Counter(holders, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["bytes_per_holder"] = static_cast<double>(stats.bytes.total()) / holders;
  state.counters["of_names"] = static_cast<double>(stats.bytes.names) / holders;
  state.counters["nodes"] = static_cast<double>(stats.nodes);
}

void remove(benchmark::State& state) {
  const Workload& workload = workload_of(fill_of(state), slots_of(state), false);
  std::vector<std::pair<Slot, std::vector<std::uint64_t>>> removals;
  for (const StoreEvent& event : workload.events) {
    removals.emplace_back(event.slot, event.names);
    std::reverse(removals.back().second.begin(), removals.back().second.end());
  }
  IndexStats stats;
  for (auto _ : state) {
    auto tree = std::make_unique<PrefixTree>();
    apply(*tree, workload);
    const double begin = thread_seconds();
    for (auto removal = removals.rbegin(); removal != removals.rend(); ++removal) {
      tree->remove(removal->first, removal->second);
    }
    state.SetIterationTime(thread_seconds() - begin);
    stats = tree->stats();
  }
  if (stats.blocks != 0) state.SkipWithError("a removal is wrong");
  state.counters["blocks_per_s"] = benchmark::Counter(
      static_cast<double>(workload.block_holders), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["bytes_left"] = static_cast<double>(stats.bytes.total());
}

void predict_and_expire(benchmark::State& state) {
  PrefixTree tree;
  std::vector<std::uint64_t> labels(static_cast<std::size_t>(state.range(0)));
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = i * 0x9e3779b97f4a7c15ULL;
  Nanoseconds now = 0;
  for (auto _ : state) {
    tree.predict(0, labels, now);
    benchmark::DoNotOptimize(tree.expire(now += seconds_to_ns(200)));
  }
}

void pin_and_unpin(benchmark::State& state) {
  PrefixTree tree;
  std::vector<std::uint64_t> labels(static_cast<std::size_t>(state.range(0)));
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = i * 0x9e3779b97f4a7c15ULL;
  tree.store(0, std::nullopt, labels, labels);
  for (auto _ : state) {
    const PinResult pinned = tree.pin(0, labels);
    benchmark::DoNotOptimize(tree.unpin(0, pinned.pin));
  }
}

// Fills are numbered as in `Fill`. At 4,096 slots A and C alone: B has 1,000 sequences, and D fewer
// requests than slots. D is large.
const std::vector<std::pair<std::int64_t, std::int64_t>> kFillsAndSlots{
    {0, 8}, {0, 64}, {0, 512}, {0, 4'096}, {1, 8},  {1, 64}, {1, 512},
    {2, 8}, {2, 64}, {2, 512}, {2, 4'096}, {3, 64}, {3, 512}};

void fills_and_slots(benchmark::internal::Benchmark* benchmark) {
  for (const auto& [fill, slots] : kFillsAndSlots) benchmark->Args({fill, slots});
}
void fills_slots_and_names(benchmark::internal::Benchmark* benchmark) {
  for (const std::int64_t own_names : {0, 1}) {
    for (const auto& [fill, slots] : kFillsAndSlots) {
      // 25.6 and 5.9 million names that no other slot uses: too much for a cell.
      if (own_names != 0 && ((fill == 2 && slots == 4'096) || (fill == 3 && slots == 512)))
        continue;
      benchmark->Args({fill, slots, own_names});
    }
  }
}

BENCHMARK(match)->ArgNames({"fill", "slots"})->Apply(fills_and_slots);
BENCHMARK(store)
    ->ArgNames({"fill", "slots", "own_names"})
    ->Apply(fills_slots_and_names)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(remove)
    ->ArgNames({"fill", "slots"})
    ->Apply(fills_and_slots)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(predict_and_expire)->ArgName("blocks")->Arg(128)->Arg(6'250);
BENCHMARK(pin_and_unpin)->ArgName("blocks")->Arg(128)->Arg(6'250);

/// Says with the figures where the content of A and D comes from.
const bool kSourcesShown = [] {
  benchmark::AddCustomContext("fill A", conversations().source);
  benchmark::AddCustomContext("fill D", agentic_sessions().source);
  return true;
}();

}  // namespace
}  // namespace kvroute::bench
