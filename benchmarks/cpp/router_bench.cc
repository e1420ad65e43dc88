// A decision without Python: hashing, scoring, and the whole of select and reserve, on prompts that
// every worker holds (the longest walk there is). Matching by itself: index_bench.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "benchmarked_router.h"
#include "kvroute/hash/block_hash.h"

namespace kvroute::bench {
namespace {

Request request(const std::vector<std::uint32_t>& tokens,
                const std::vector<WorkerRef>* allowed = nullptr) {
  Request request;
  request.token_ids = tokens;
  request.allowed = allowed;
  return request;
}

std::unique_ptr<Router> filled_router(std::int64_t workers,
                                      const std::vector<std::uint32_t>& tokens,
                                      const std::string& policy, std::size_t decision_log = 0) {
  auto router = empty_router(policy, decision_log);
  for (std::int64_t worker = 0; worker < workers; ++worker) {
    add_worker(*router, worker);
    const std::vector<WorkerRef> only{{worker, {}}};
    (void)router->release(router->reserve(request(tokens, &only), ""));
  }
  return router;
}

void hash(benchmark::State& state) {
  const auto tokens = prompt(static_cast<std::size_t>(state.range(0)));
  std::vector<std::uint64_t> hashes(tokens.size() / kBlockSize);
  for (auto _ : state) {
    hash_blocks(tokens, kBlockSize, kHashSeed, hashes);
    benchmark::DoNotOptimize(hashes.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(hashes.size()));
}
BENCHMARK(hash)->ArgName("tokens")->Arg(8'192)->Arg(100'000);

void select(benchmark::State& state) {
  const auto tokens = prompt(static_cast<std::size_t>(state.range(0)));
  const auto router = filled_router(state.range(1), tokens, "kv_cost");
  const Request wanted = request(tokens);
  for (auto _ : state) benchmark::DoNotOptimize(router->select(wanted));
  if (router->select(wanted).cached_tokens != tokens.size() / kBlockSize * kBlockSize) {
    state.SkipWithError("not a full hit");
  }
}
BENCHMARK(select)
    ->ArgNames({"tokens", "workers"})
    ->ArgsProduct({{2'000, 8'192, 32'000, 100'000}, {8, 64, 512}});

void reserve_and_release(benchmark::State& state) {
  const auto tokens = prompt(static_cast<std::size_t>(state.range(0)));
  const auto router = filled_router(state.range(1), tokens, "kv_cost");
  const Request wanted = request(tokens);
  for (auto _ : state) (void)router->release(router->reserve(wanted, ""));
}
BENCHMARK(reserve_and_release)
    ->ArgNames({"tokens", "workers"})
    ->ArgsProduct({{8'192, 100'000}, {64}});

/// What a log of the last 1,000 decisions adds to each.
void select_with_log(benchmark::State& state) {
  const auto tokens = prompt(8'192);
  const auto router =
      filled_router(state.range(0), tokens, "kv_cost", static_cast<std::size_t>(state.range(1)));
  const Request wanted = request(tokens);
  for (auto _ : state) benchmark::DoNotOptimize(router->select(wanted));
}
BENCHMARK(select_with_log)->ArgNames({"workers", "log"})->ArgsProduct({{8, 64, 512}, {0, 1'000}});

void reserve_with_log(benchmark::State& state) {
  const auto tokens = prompt(8'192);
  const auto router =
      filled_router(state.range(0), tokens, "kv_cost", static_cast<std::size_t>(state.range(1)));
  const Request wanted = request(tokens);
  for (auto _ : state) (void)router->release(router->reserve(wanted, ""));
}
BENCHMARK(reserve_with_log)->ArgNames({"workers", "log"})->ArgsProduct({{8, 64, 512}, {0, 1'000}});

/// Decisions while another thread reads a log of 10,000 of them again and again: the time of all
/// but the slowest thousandth, and how often it was read.
void reserve_while_the_log_is_read(benchmark::State& state) {
  const auto tokens = prompt(2'000);
  const auto router = filled_router(state.range(0), tokens, "kv_cost", 10'000);
  const Request wanted = request(tokens);
  const auto decide = [&] { (void)router->release(router->reserve(wanted, "")); };
  for (int i = 0; i < 10'000; ++i) decide();
  std::atomic<bool> ends{false};
  std::atomic<std::uint64_t> readings{0};
  std::thread reader([&] {
    while (state.range(1) != 0 && !ends) {
      benchmark::DoNotOptimize(router->recent_decisions(10'000).size());
      ++readings;
    }
  });
  std::vector<double> times;
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    decide();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    times.push_back(took.count());
  }
  ends = true;
  reader.join();
  std::ranges::sort(times);
  state.counters["p999_us"] = times[times.size() * 999 / 1'000];
  state.counters["max_us"] = times.back();
  state.counters["readings"] = static_cast<double>(readings);
}
BENCHMARK(reserve_while_the_log_is_read)
    ->ArgNames({"workers", "read"})
    ->ArgsProduct({{64, 512}, {0, 1}})
    ->Iterations(100'000)
    ->UseRealTime();

/// Half of the workers allowed: none named, by a list, by a set that was looked up before.
void select_allowed(benchmark::State& state) {
  const auto tokens = prompt(2'000);
  const auto router = filled_router(1'024, tokens, "kv_cost");
  std::vector<WorkerRef> refs(512);
  for (std::size_t i = 0; i < refs.size(); ++i) refs[i].worker = static_cast<std::int64_t>(i);
  const auto set = router->allowed_set(refs);
  Request wanted = request(tokens, state.range(0) == 1 ? &refs : nullptr);
  if (state.range(0) == 2) wanted.allowed_set = set.get();
  for (auto _ : state) benchmark::DoNotOptimize(router->select(wanted));
}
BENCHMARK(select_allowed)->ArgName("none0_list1_set2")->DenseRange(0, 2);

/// Decisions on one router from as many threads as the case says; a thread's own prompt each.
void select_from_threads(benchmark::State& state) {
  static std::unique_ptr<Router> router;
  const auto tokens = prompt(static_cast<std::size_t>(state.range(0)));
  if (state.thread_index() == 0) router = filled_router(64, tokens, "kv_cost");
  const Request wanted = request(tokens);
  for (auto _ : state) benchmark::DoNotOptimize(router->select(wanted));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(select_from_threads)
    ->ArgName("tokens")
    ->Arg(8'192)
    ->Arg(32'000)
    ->ThreadRange(1, 2)
    ->UseRealTime();

}  // namespace
}  // namespace kvroute::bench
