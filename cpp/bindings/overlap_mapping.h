#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "kvroute/base/ids.h"
#include "pybind.h"

namespace kvroute::python {

/// kvroute.Overlaps: {(worker, dp_rank): depth}. Lives in Python alone, so it may own its objects.
class OverlapMapping {
 public:
  explicit OverlapMapping(const std::vector<std::pair<TargetId, std::uint32_t>>& depths);

  [[nodiscard]] const py::dict& depths() const noexcept { return depths_; }
  [[nodiscard]] py::tuple arrays() const;

 private:
  py::dict depths_;
  std::vector<std::uint32_t> values_;  // in the mapping's order
};

void bind_overlaps(py::module_& module);

}  // namespace kvroute::python
