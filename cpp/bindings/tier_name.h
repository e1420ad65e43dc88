#pragma once

#include "kvroute/base/tier.h"
#include "pybind.h"

namespace kvroute::python {

/// 'device', 'host', 'disk' or 'external'. \throws InvalidArgument naming `field`
[[nodiscard]] Tier tier_of(py::handle object, const char* field);
[[nodiscard]] py::str to_python(Tier tier);

}  // namespace kvroute::python
