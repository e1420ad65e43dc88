#pragma once

// The one place that includes pybind11: a translation unit with other casters than its neighbours
// would break the one-definition rule.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace kvroute::python {

namespace py = pybind11;

// One function per topic; each adds its names to the module. Classes that a signature mentions
// must be bound before it, or its docstring shows C++ names.
void bind_errors(py::module_& module);
void bind_features(py::module_& module);
void bind_hash(py::module_& module);
void bind_log(py::module_& module);
void bind_clock(py::module_& module);
void bind_index(py::module_& module);
void bind_policy(py::module_& module);
void bind_selection(py::module_& module);
void bind_stats(py::module_& module);
void bind_router(py::module_& module);

}  // namespace kvroute::python
