#pragma once

#include <atomic>
#include <cstddef>

namespace kvroute::testing {

/// A program with counted_allocations.cc counts all that `new` gives it.
extern std::atomic<std::size_t> allocations;  ///< ever
extern std::atomic<std::size_t> live_bytes;   ///< not yet given back, as the allocator rounds up

}  // namespace kvroute::testing
