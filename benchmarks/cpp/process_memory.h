#pragma once

#include <cstddef>

namespace kvroute::bench {

/// Bytes that this process has allocated with operator new and not yet freed, as the allocator
/// rounds them up. Counted from `count_allocations` on; before, what is freed is not subtracted.
[[nodiscard]] std::ptrdiff_t live_bytes();

/// Begins to count. Not at once, since counting costs time.
void count_allocations();

/// Bytes of this process that lie in memory.
[[nodiscard]] std::ptrdiff_t resident_bytes();

}  // namespace kvroute::bench
