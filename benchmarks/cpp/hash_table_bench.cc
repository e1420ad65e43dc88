// Which hash table serves which purpose in the index: the index's own IdTable, Abseil's
// flat_hash_map and tsl-robin-map. First the single operations on tables of 10^5 to 10^7 entries,
// from a block's name to its id, filled and emptied as events do it, with a prefetch eight names
// ahead. Then two whole jobs. Names: one table for each target, filled and emptied in turns; bytes
// count as much as time. Edges: from (parent, label) to a child, one table for all, looked up by
// every match.

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <benchmark/benchmark.h>
#include <tsl/robin_map.h>
#include <tsl/robin_set.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "index/accounting.h"
#include "index/id_table.h"
#include "kvroute/base/random.h"

namespace kvroute {
namespace {

using detail::CountingAllocator;

struct Block {
  std::uint32_t id;
  std::uint32_t copies;
};
using NamePair = std::pair<const std::uint64_t, Block>;
using AbslNames = absl::flat_hash_map<std::uint64_t, Block, absl::Hash<std::uint64_t>,
                                      std::equal_to<>, CountingAllocator<NamePair>>;
using RobinNames = tsl::robin_map<std::uint64_t, Block, absl::Hash<std::uint64_t>, std::equal_to<>,
                                  CountingAllocator<std::pair<std::uint64_t, Block>>>;

struct Edge {
  std::uint64_t label;
  std::uint32_t parent;
  std::uint32_t child;
  friend bool operator==(const Edge& a, const Edge& b) noexcept {
    return a.label == b.label && a.parent == b.parent;
  }
};
struct EdgeHash {
  std::size_t operator()(const Edge& edge) const noexcept {
    const std::uint64_t mixed = (edge.label ^ edge.parent) * 0x9e3779b97f4a7c15ULL;
    return static_cast<std::size_t>(mixed ^ (mixed >> 32));
  }
};
using AbslEdges = absl::flat_hash_set<Edge, EdgeHash>;
using RobinEdges = tsl::robin_set<Edge, EdgeHash>;

std::vector<std::uint64_t> random_hashes(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::uint64_t> hashes(count);
  for (auto& hash : hashes) hash = random.next();
  return hashes;
}

// The tables behind one face. IdTable keeps no keys: they lie in an array by id, as they do in the
// index, and the others keep them a second time.
class OwnTable {
 public:
  explicit OwnTable(std::span<const std::uint64_t> keys) : keys_(keys) {}
  void prefetch(std::uint64_t key) const { table_.prefetch(key); }
  void insert(std::uint64_t key, std::uint32_t id) { table_.insert(key, id); }
  [[nodiscard]] std::uint32_t find(std::uint64_t key) const {
    return table_.find(key, [&](std::uint32_t id) { return keys_[id] == key; });
  }
  void erase(std::uint64_t key, std::uint32_t id) { table_.erase(key, id); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::span<const std::uint64_t> keys_;
  std::size_t bytes_ = 0;
  detail::IdTable table_{&bytes_};
};

template <typename Names>
class KeyTable {
 public:
  explicit KeyTable(std::span<const std::uint64_t> /*keys*/) {}
  void prefetch(std::uint64_t key) const {
    if constexpr (requires { names_.prefetch(key); }) names_.prefetch(key);
  }
  void insert(std::uint64_t key, std::uint32_t id) { names_.insert({key, Block{id, 1}}); }
  [[nodiscard]] std::uint32_t find(std::uint64_t key) const {
    const auto found = names_.find(key);
    return found == names_.end() ? detail::kNoId : found->second.id;
  }
  void erase(std::uint64_t key, std::uint32_t /*id*/) { names_.erase(key); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
  Names names_{typename Names::allocator_type(&bytes_)};
};

constexpr std::size_t kAhead = 8;

benchmark::Counter per_entry(std::size_t count) {
  return {static_cast<double>(count),
          benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert};
}

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

template <typename Table>
void fill(Table& table, std::span<const std::uint64_t> keys) {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (i + kAhead < keys.size()) table.prefetch(keys[i + kAhead]);
    table.insert(keys[i], static_cast<std::uint32_t>(i));
  }
}

std::vector<std::uint32_t> shuffled_ids(std::size_t count) {
  std::vector<std::uint32_t> ids(count);
  std::iota(ids.begin(), ids.end(), 0U);
  Random random(5);
  for (std::size_t i = count; i > 1; --i) std::swap(ids[i - 1], ids[random.below(i)]);
  return ids;
}

template <typename Table>
void table_insert(benchmark::State& state) {
  const auto keys = random_hashes(static_cast<std::size_t>(state.range(0)), 4);
  double bytes = 0;
  for (auto _ : state) {
    Table table(keys);
    const auto start = Clock::now();
    fill(table, keys);
    state.SetIterationTime(seconds_since(start));
    bytes = static_cast<double>(table.bytes());
  }
  state.counters["bytes_per_entry"] = bytes / static_cast<double>(keys.size());
  state.counters["per_entry"] = per_entry(keys.size());
}

// In another order than they were inserted.
template <typename Table>
void table_erase(benchmark::State& state) {
  const auto keys = random_hashes(static_cast<std::size_t>(state.range(0)), 4);
  const auto ids = shuffled_ids(keys.size());
  for (auto _ : state) {
    Table table(keys);
    fill(table, keys);
    const auto start = Clock::now();
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (i + kAhead < ids.size()) table.prefetch(keys[ids[i + kAhead]]);
      table.erase(keys[ids[i]], ids[i]);
    }
    state.SetIterationTime(seconds_since(start));
  }
  state.counters["per_entry"] = per_entry(keys.size());
}

// All of a table's entries in another order, without a prefetch; or as many keys that it lacks.
template <typename Table, bool kHit>
void table_find(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const auto keys = random_hashes(count, 4);
  auto wanted = random_hashes(count, 6);
  if (kHit) {
    const auto ids = shuffled_ids(count);
    for (std::size_t i = 0; i < count; ++i) wanted[i] = keys[ids[i]];
  }
  Table table(keys);
  fill(table, keys);
  for (auto _ : state) {
    std::uint64_t found = 0;
    for (const std::uint64_t key : wanted) found += table.find(key) != detail::kNoId;
    if (found != (kHit ? count : 0)) state.SkipWithError("a wrong answer");
  }
  state.counters["per_entry"] = per_entry(count);
}

template <typename Table>
void table_find_hit(benchmark::State& state) {
  table_find<Table, true>(state);
}
template <typename Table>
void table_find_miss(benchmark::State& state) {
  table_find<Table, false>(state);
}

// The longest of all insertions on the way to so many entries; the least of five fills, so that
// what else the machine did does not count.
template <typename Table>
void table_longest_insert(benchmark::State& state) {
  const auto keys = random_hashes(static_cast<std::size_t>(state.range(0)), 4);
  double least = std::numeric_limits<double>::infinity();
  for (auto _ : state) {
    for (int fills = 0; fills < 5; ++fills) {
      Table table(keys);
      double longest = 0;
      for (std::size_t i = 0; i < keys.size(); ++i) {
        const auto start = Clock::now();
        table.insert(keys[i], static_cast<std::uint32_t>(i));
        longest = std::max(longest, seconds_since(start));
      }
      least = std::min(least, longest);
    }
  }
  state.counters["longest"] = least;
}

#define KVROUTE_TABLE_BENCHMARKS(table)  \
  BENCHMARK(table_insert<table>)         \
      ->RangeMultiplier(10)              \
      ->Range(100'000, 10'000'000)       \
      ->UseManualTime()                  \
      ->Unit(benchmark::kMillisecond);   \
  BENCHMARK(table_erase<table>)          \
      ->RangeMultiplier(10)              \
      ->Range(100'000, 10'000'000)       \
      ->UseManualTime()                  \
      ->Unit(benchmark::kMillisecond);   \
  BENCHMARK(table_find_hit<table>)       \
      ->RangeMultiplier(10)              \
      ->Range(100'000, 10'000'000)       \
      ->Unit(benchmark::kMillisecond);   \
  BENCHMARK(table_find_miss<table>)      \
      ->RangeMultiplier(10)              \
      ->Range(100'000, 10'000'000)       \
      ->Unit(benchmark::kMillisecond);   \
  BENCHMARK(table_longest_insert<table>) \
      ->RangeMultiplier(10)              \
      ->Range(100'000, 10'000'000)       \
      ->Iterations(1)                    \
      ->Unit(benchmark::kMillisecond)

KVROUTE_TABLE_BENCHMARKS(OwnTable);
KVROUTE_TABLE_BENCHMARKS(KeyTable<AbslNames>);
KVROUTE_TABLE_BENCHMARKS(KeyTable<RobinNames>);
#undef KVROUTE_TABLE_BENCHMARKS

// Eight targets take turns, event by event of 16 blocks, until each holds 90,000; then all goes.
template <typename Names>
void names(benchmark::State& state) {
  constexpr std::size_t kTargets = 8;
  constexpr std::size_t kEvent = 16;
  const auto hashes = random_hashes(kTargets * 90'000, 1);
  double bytes_per_name = 0;
  for (auto _ : state) {
    std::size_t bytes = 0;
    std::vector<Names> tables;
    tables.reserve(kTargets);
    for (std::size_t i = 0; i < kTargets; ++i) {
      tables.emplace_back(typename Names::allocator_type(&bytes));
    }
    for (std::size_t i = 0; i < hashes.size(); ++i) {
      tables[i / kEvent % kTargets].insert({hashes[i], Block{static_cast<std::uint32_t>(i), 1}});
    }
    bytes_per_name = static_cast<double>(bytes) / static_cast<double>(hashes.size());
    for (std::size_t i = 0; i < hashes.size(); ++i) {
      tables[i / kEvent % kTargets].erase(hashes[i]);
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(2 * hashes.size()));
  state.counters["bytes_per_name"] = bytes_per_name;
}
BENCHMARK(names<AbslNames>)->Unit(benchmark::kMillisecond);
BENCHMARK(names<RobinNames>)->Unit(benchmark::kMillisecond);

template <typename Edges>
void edges(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const auto labels = random_hashes(count, 2);
  Edges table;
  for (std::size_t i = 0; i < count; ++i) {
    table.insert(Edge{labels[i], static_cast<std::uint32_t>(i), 7});
  }
  Random random(3);
  std::vector<Edge> wanted(4096);
  for (auto& edge : wanted) {
    const std::size_t at = random.below(count);
    const bool present = random.below(4) != 0;  // a match ends with an edge that is not there
    edge = {labels[at], static_cast<std::uint32_t>(present ? at : at + 1), 0};
  }
  std::size_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(table.find(wanted[i++ % wanted.size()]));
}
BENCHMARK(edges<AbslEdges>)->Arg(10'000)->Arg(200'000);
BENCHMARK(edges<RobinEdges>)->Arg(10'000)->Arg(200'000);

}  // namespace
}  // namespace kvroute
