#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/router/worker_spec.h"

namespace kvroute {

namespace detail {
class TargetTable;
}

/// Workers or ranks that requests allow, looked up once instead of with every request; again when
/// workers came or left. Who has left is left out, and takes part again when it is back.
/// Thread-safe.
class AllowedSet {
 public:
  /// \throws InvalidArgument if `refs` is empty
  explicit AllowedSet(std::vector<WorkerRef> refs);
  AllowedSet(const AllowedSet&) = delete;
  AllowedSet& operator=(const AllowedSet&) = delete;

  [[nodiscard]] const std::vector<WorkerRef>& refs() const noexcept { return refs_; }

 private:
  friend class detail::TargetTable;

  std::vector<WorkerRef> refs_;
  mutable std::mutex mutex_;
  mutable std::uint64_t membership_ = 0;  // of the table that they were looked up in; 0: none yet
  mutable std::shared_ptr<const std::vector<Slot>> slots_;  // ascending, each once
};

}  // namespace kvroute
