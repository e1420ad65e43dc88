// kvroute's side of bench_peers.py: what benchmarks/peers measures of other indexes, measured of
// the prefix tree in the same way and from the same workload file. One measurement a process,
// printed as one line of JSON.
//
//   index_peer_side write FILE FILL(0..3) SLOTS OWN_NAMES(0|1)
//   index_peer_side write-tokens FILE
//   index_peer_side speed|hash FILE [ROUNDS]
//   index_peer_side memory FILE CYCLES
//   index_peer_side readers FILE ROUNDS READERS
//
// `write` prints where the content comes from.

#include <cstdint>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "index_measurements.h"
#include "workload_file.h"

namespace kvroute::bench {
namespace {

/// Two prompts, as lookups whose labels are token ids.
Workload token_workload() {
  Workload workload;
  std::uint64_t state = 42;
  for (const std::size_t length : {std::size_t{8'192}, std::size_t{100'000}}) {
    auto& tokens = workload.lookups.emplace_back();
    for (std::size_t i = 0; i < length; ++i) {
      state = state * 6'364'136'223'846'793'005ULL + 1'442'695'040'888'963'407ULL;
      tokens.push_back((state >> 33) % 150'000);
    }
  }
  return workload;
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2) throw std::runtime_error("expected a mode and a file");
  const auto& mode = arguments[0];
  const auto& path = arguments[1];
  if (mode == "write" && arguments.size() == 5) {
    const auto fill = static_cast<Fill>(std::stoul(arguments[2]));
    const auto slots = static_cast<std::uint32_t>(std::stoul(arguments[3]));
    const Workload workload = make_workload(fill, slots, arguments[4] == "1");
    write_workload(workload, path);
    std::cout << workload.source << '\n';
    return 0;
  }
  if (mode == "write-tokens") {
    write_workload(token_workload(), path);
    return 0;
  }
  FlatWorkload workload(path);
  const std::size_t rounds = arguments.size() > 2 ? std::stoul(arguments[2]) : 5;
  if (mode == "speed") {
    measure_speed(workload, rounds);
  } else if (mode == "memory") {
    measure_memory(workload, rounds);
  } else if (mode == "readers" && arguments.size() == 4) {
    measure_readers_beside_writer(workload, rounds, std::stoul(arguments[3]));
  } else if (mode == "hash") {
    measure_hashing(workload);
  } else {
    throw std::runtime_error("unknown mode, or too few arguments: " + mode);
  }
  return 0;
}

}  // namespace
}  // namespace kvroute::bench

int main(int argc, char** argv) {
  try {
    return kvroute::bench::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "index_peer_side: " << error.what() << '\n';
    return 1;
  }
}
