#include "process_memory.h"

#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <new>

namespace kvroute::bench {
namespace {

std::atomic<bool> counting{false};
std::atomic<std::ptrdiff_t> live{0};

void* counted(void* block) {
  if (block == nullptr) throw std::bad_alloc();
  if (counting.load(std::memory_order_relaxed)) {
    live.fetch_add(static_cast<std::ptrdiff_t>(malloc_usable_size(block)),
                   std::memory_order_relaxed);
  }
  return block;
}

void release(void* block) noexcept {
  if (block != nullptr && counting.load(std::memory_order_relaxed)) {
    live.fetch_sub(static_cast<std::ptrdiff_t>(malloc_usable_size(block)),
                   std::memory_order_relaxed);
  }
  std::free(block);
}

void* allocate_aligned(std::size_t size, std::align_val_t alignment) {
  const auto step = static_cast<std::size_t>(alignment);
  return counted(std::aligned_alloc(step, (size + step - 1) / step * step));
}

}  // namespace

std::ptrdiff_t live_bytes() { return live.load(); }

void count_allocations() { counting.store(true); }

std::ptrdiff_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::ptrdiff_t total = 0;
  std::ptrdiff_t resident = 0;
  file >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace kvroute::bench

// The array and nothrow forms of the standard library call these.
void* operator new(std::size_t size) { return kvroute::bench::counted(std::malloc(size)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return kvroute::bench::allocate_aligned(size, alignment);
}
void operator delete(void* block) noexcept { kvroute::bench::release(block); }
void operator delete(void* block, std::size_t) noexcept { kvroute::bench::release(block); }
void operator delete(void* block, std::align_val_t) noexcept { kvroute::bench::release(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept {
  kvroute::bench::release(block);
}
