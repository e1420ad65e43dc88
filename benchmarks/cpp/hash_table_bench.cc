// Which hash table serves which purpose in the index: Abseil's flat_hash_map and tsl-robin-map on
// the two jobs there are. Names: from an engine's hash to a block, one table for each target,
// filled and emptied by events; bytes count as much as time. Edges: from (parent, label) to a
// child, one table for all, looked up by every match.

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <benchmark/benchmark.h>
#include <tsl/robin_map.h>
#include <tsl/robin_set.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "index/accounting.h"
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
