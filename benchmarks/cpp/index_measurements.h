#pragma once

#include <cstddef>

#include "workload_file.h"

namespace kvroute::bench {

// What is measured of a prefix tree beside other indexes; benchmarks/peers measures the same of
// those. Each prints one line of JSON, and throws std::runtime_error on a wrong answer. For clean
// figures, one measurement a process.

/// Nanoseconds of a lookup, one timer call included; M blocks stored and removed a second of this
/// thread's processor time, medians of `rounds` fresh trees, the first of which is asked.
void measure_speed(const FlatWorkload& workload, std::size_t rounds);

/// Bytes per block and slot, live and resident, when all is stored and when all is removed again;
/// and both once more after `cycles` times the same with other names and labels.
void measure_memory(FlatWorkload& workload, std::size_t cycles);

/// Nanoseconds of a lookup beside a writer: one thread stores the second half of the events and
/// removes it again, `rounds` times at full speed; `readers` others ask the requests that the first
/// half answers whole meanwhile, so each must be answered whole at every moment.
void measure_readers_beside_writer(const FlatWorkload& workload, std::size_t rounds,
                                   std::size_t readers);

/// Microseconds for the block hashes of each lookup, whose labels are token ids; block size 16.
void measure_hashing(const FlatWorkload& workload);

}  // namespace kvroute::bench
