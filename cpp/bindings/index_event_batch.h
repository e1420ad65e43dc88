#pragma once

#include <deque>
#include <span>
#include <string_view>
#include <vector>

#include "integer_input.h"
#include "kvroute/index/prefix_index.h"
#include "pybind.h"

namespace kvroute::python {

/// The events of PrefixIndex.apply, checked, and the hashes that they view. Made and destroyed with
/// the GIL held; read without it.
class IndexEventBatch {
 public:
  /// \throws InvalidArgument naming the event and its field
  explicit IndexEventBatch(py::handle events);

  [[nodiscard]] std::span<const IndexEvent> events() const noexcept { return events_; }

 private:
  void add(py::handle object);
  std::span<const std::uint64_t> hashes(py::handle object, const char* field);

  std::deque<HashInput> inputs_;
  std::vector<IndexEvent> events_;
};

}  // namespace kvroute::python
