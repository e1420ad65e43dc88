#pragma once

#include <cstddef>
#include <string>

#include "arguments.h"
#include "kvroute/base/error.h"
#include "pybind.h"

namespace kvroute::python {

/// Calls `take` for each item of an iterable; what it refuses is refused as a part of the item:
/// "tier: expected ..." as "events[3].tier: expected ...", ": expected ..." as "events[3]: ...".
/// \throws InvalidArgument naming `field` if the object is no iterable
template <typename Take>
void for_each_item(py::handle object, const char* field, const char* expected, Take take) {
  const auto items = py::reinterpret_steal<py::object>(PyObject_GetIter(object.ptr()));
  if (!items) {
    PyErr_Clear();
    throw InvalidArgument(std::string(field) + ": expected " + expected + ", got " +
                          describe(object));
  }
  for (std::size_t position = 0;; ++position) {
    const auto item = py::reinterpret_steal<py::object>(PyIter_Next(items.ptr()));
    if (!item) break;
    try {
      take(item);
    } catch (const InvalidArgument& refused) {
      const std::string what = refused.what();
      const bool is_name = !what.empty() && what.front() != ':' && what.front() != '[';
      throw InvalidArgument(std::string(field) + "[" + std::to_string(position) + "]" +
                            (is_name ? "." : "") + what);
    }
  }
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
}

}  // namespace kvroute::python
