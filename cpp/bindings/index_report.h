#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kvroute/index/index_stats.h"

namespace kvroute::python {

/// kvroute.IndexStats: an index's figures, with what only its owner knows.
struct IndexReport {
  std::uint32_t block_size = 0;
  std::size_t targets = 0;
  std::optional<std::size_t> memory_limit;
  IndexStats stats;
};

}  // namespace kvroute::python
