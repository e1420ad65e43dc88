#pragma once

#include "kvroute/policy/policy_spec.h"
#include "pybind.h"

namespace kvroute::python {

/// A policy from its name, or from a mapping of "name" and parameters: numbers, bools, strs, lists,
/// and mappings with str keys. \throws InvalidArgument naming the place below `field`
[[nodiscard]] PolicySpec policy_spec(py::handle object, const char* field);

/// {"name": ..., parameters}
[[nodiscard]] py::dict to_python(const PolicySpec& spec);

}  // namespace kvroute::python
