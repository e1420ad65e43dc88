#include "index_measurements.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <span>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kvroute/hash/block_hash.h"
#include "kvroute/index/prefix_tree.h"
#include "label_mixing.h"
#include "process_memory.h"

namespace kvroute::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kLookups = 40'000;
constexpr std::size_t kHashRuns = 400;

double processor_seconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double thread_seconds() { return processor_seconds(CLOCK_THREAD_CPUTIME_ID); }

double process_seconds() { return processor_seconds(CLOCK_PROCESS_CPUTIME_ID); }

double nanoseconds(Clock::duration time) {
  return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
}

double quantile(std::vector<double> values, double fraction) {
  const auto at = static_cast<std::size_t>(fraction * static_cast<double>(values.size()));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

void store(PrefixTree& tree, const FlatWorkload::Event& event) {
  tree.store(event.slot, event.parent, event.names, event.labels);
}

void store_all(PrefixTree& tree, const FlatWorkload& workload) {
  for (const auto& event : workload.events()) store(tree, event);
}

void remove_all(PrefixTree& tree, const FlatWorkload& workload) {
  const auto events = workload.events();
  for (auto event = events.rbegin(); event != events.rend(); ++event) {
    tree.remove(event->slot, event->removed);
  }
}

/// Asks one request; `times` takes how long it took. \return the depth of the deepest slot.
std::size_t ask(const PrefixTree& tree, std::span<const std::uint64_t> labels, Overlaps& overlaps,
                std::vector<double>& times) {
  const auto begin = Clock::now();
  tree.match(labels, overlaps);
  times.push_back(nanoseconds(Clock::now() - begin));
  return *std::max_element(overlaps.held.begin(), overlaps.held.end());
}

/// Asks every request at least once, and at least `count`; everything asked was stored.
std::vector<double> ask_all(const PrefixTree& tree, const FlatWorkload& workload,
                            std::size_t count) {
  const auto lookups = workload.lookups();
  Overlaps overlaps;
  std::vector<double> times;
  times.reserve(std::max(count, lookups.size()));
  for (std::size_t i = 0; i < std::max(count, lookups.size()); ++i) {
    const auto labels = lookups[i % lookups.size()];
    require(ask(tree, labels, overlaps, times) == labels.size(), "a match is wrong");
  }
  return times;
}

}  // namespace

void measure_speed(const FlatWorkload& workload, std::size_t rounds) {
  const auto holders = static_cast<double>(workload.block_holders());
  std::vector<double> stores;
  std::vector<double> removals;
  std::vector<double> times;
  for (std::size_t round = 0; round < rounds; ++round) {
    PrefixTree tree;
    double begin = thread_seconds();
    store_all(tree, workload);
    stores.push_back(thread_seconds() - begin);
    if (round == 0) {
      (void)ask_all(tree, workload, kLookups / 10);
      times = ask_all(tree, workload, kLookups);
    }
    begin = thread_seconds();
    remove_all(tree, workload);
    removals.push_back(thread_seconds() - begin);
    require(tree.stats().held_exact == 0, "a removal is wrong");
  }
  std::vector<double> timer;
  for (std::size_t i = 0; i < kLookups; ++i) {
    const auto begin = Clock::now();
    timer.push_back(nanoseconds(Clock::now() - begin));
  }
  std::cout << "{\"lookup_p50_ns\": " << quantile(times, 0.5)
            << ", \"lookup_p99_ns\": " << quantile(times, 0.99)
            << ", \"timer_ns\": " << quantile(timer, 0.5)
            << ", \"store_mps\": " << holders / quantile(stores, 0.5) * 1e-6
            << ", \"remove_mps\": " << holders / quantile(removals, 0.5) * 1e-6 << "}\n";
}

void measure_memory(FlatWorkload& workload, std::size_t cycles) {
  const auto holders = static_cast<double>(workload.block_holders());
  count_allocations();
  const std::ptrdiff_t live = live_bytes();
  const std::ptrdiff_t resident = resident_bytes();
  const auto print_bytes = [&](const char* suffix) {
    std::cout << "\"live" << suffix << "\": " << static_cast<double>(live_bytes() - live) / holders
              << ", \"resident" << suffix
              << "\": " << static_cast<double>(resident_bytes() - resident) / holders << ", ";
  };
  PrefixTree tree;
  store_all(tree, workload);
  const IndexStats stats = tree.stats();
  require(stats.held_exact == workload.block_holders(), "a store is wrong");
  std::cout << "{";
  print_bytes("");
  (void)ask_all(tree, workload, 0);
  remove_all(tree, workload);
  print_bytes("_left");
  for (std::size_t cycle = 1; cycle <= cycles; ++cycle) {
    workload.relabel(mix(cycle));
    store_all(tree, workload);
    require(tree.stats().held_exact == workload.block_holders(), "a store is wrong");
    if (cycle == cycles) print_bytes("_cycled");
    remove_all(tree, workload);
    if (cycle == cycles) print_bytes("_cycled_left");
  }
  std::cout << "\"own_count\": " << static_cast<double>(stats.bytes.total()) / holders << "}\n";
}

void measure_readers_beside_writer(const FlatWorkload& workload, std::size_t rounds,
                                   std::size_t readers) {
  const auto events = workload.events();
  const std::size_t half = events.size() / 2;
  PrefixTree tree;
  for (const auto& event : events.first(half)) store(tree, event);
  std::vector<std::span<const std::uint64_t>> whole;
  {
    Overlaps overlaps;
    std::vector<double> times;
    for (const auto labels : workload.lookups()) {
      if (ask(tree, labels, overlaps, times) == labels.size()) whole.push_back(labels);
    }
  }
  std::size_t written = 0;
  for (const auto& event : events.subspan(half)) written += 2 * event.names.size() * rounds;

  std::vector<std::vector<double>> times_of(readers);
  std::vector<double> busy_of(readers);
  for (auto& times : times_of) times.reserve(std::size_t{1} << 24);  // not while it is measured
  std::atomic<bool> done{false};
  std::atomic<bool> right{true};
  const auto read = [&](std::size_t reader) {
    const double processor = thread_seconds();
    Overlaps overlaps;
    for (std::size_t i = reader * whole.size() / readers; !done.load(std::memory_order_relaxed);
         i = (i + 1) % whole.size()) {
      if (ask(tree, whole[i], overlaps, times_of[reader]) != whole[i].size()) right.store(false);
    }
    busy_of[reader] = thread_seconds() - processor;
  };
  const double processor = process_seconds();
  const auto begin = Clock::now();
  std::thread writing([&] {
    for (std::size_t round = 0; round < rounds; ++round) {
      for (std::size_t i = half; i < events.size(); ++i) store(tree, events[i]);
      for (std::size_t i = events.size(); i-- > half;) {
        tree.remove(events[i].slot, events[i].removed);
      }
    }
    done.store(true);
  });
  std::vector<std::thread> others;
  for (std::size_t reader = 1; reader < readers; ++reader) others.emplace_back(read, reader);
  read(0);
  for (auto& other : others) other.join();
  writing.join();
  const double seconds = nanoseconds(Clock::now() - begin) * 1e-9;
  double busy = process_seconds() - processor;
  for (const double reading : busy_of) busy -= reading;
  require(right.load(), "a match beside the writer is wrong");
  std::vector<double> times;
  for (const auto& some : times_of) times.insert(times.end(), some.begin(), some.end());
  std::cout << "{\"reader_p50_ns\": " << quantile(times, 0.5)
            << ", \"reader_p99_ns\": " << quantile(times, 0.99)
            << ", \"lookups_mps\": " << static_cast<double>(times.size()) / seconds * 1e-6
            << ", \"written_mps\": " << static_cast<double>(written) / seconds * 1e-6
            << ", \"written_busy_mps\": " << static_cast<double>(written) / busy * 1e-6 << "}\n";
}

void measure_hashing(const FlatWorkload& workload) {
  std::uint64_t checksum = 0;
  std::cout << "{";
  for (const auto& asked : workload.lookups()) {
    const std::vector<std::uint32_t> tokens(asked.begin(), asked.end());
    std::vector<std::uint64_t> hashes(full_blocks(tokens.size(), 16));
    std::vector<double> times;
    for (std::size_t run = 0; run < kHashRuns; ++run) {
      const auto begin = Clock::now();
      hash_blocks(tokens, 16, kHashSeed, hashes);
      times.push_back(nanoseconds(Clock::now() - begin));
    }
    for (const std::uint64_t hash : hashes) checksum = checksum * 31 + hash;
    std::cout << "\"hash_" << tokens.size() << "_us\": " << quantile(times, 0.5) * 1e-3 << ", ";
  }
  std::cout << "\"checksum\": " << checksum << "}\n";
}

}  // namespace kvroute::bench
