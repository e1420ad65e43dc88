#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/router/worker_spec.h"
#include "pybind.h"

namespace kvroute::python {

/// A worker's name from an int or str. \throws InvalidArgument naming `field`
[[nodiscard]] WorkerName worker_name(py::handle object, const char* field);

/// A worker, or a pair (worker, dp_rank). \throws InvalidArgument naming `field`
[[nodiscard]] WorkerRef worker_ref(py::handle object, const char* field);

/// Workers, or pairs (worker, dp_rank), from any sequence but a str (a frequent slip:
/// allowed="w0"). \throws InvalidArgument naming `field`
[[nodiscard]] std::vector<WorkerRef> worker_refs(py::handle object, const char* field);

/// The int or str that the worker was given.
[[nodiscard]] py::object to_python(const WorkerName& name);

/// (worker, dp_rank)
[[nodiscard]] py::tuple to_python(const TargetId& target);

}  // namespace kvroute::python
