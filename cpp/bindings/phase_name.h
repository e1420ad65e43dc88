#pragma once

#include "kvroute/base/phase.h"
#include "pybind.h"

namespace kvroute::python {

/// The phase of a name: "whole" (None too), "prefill", "decode". \throws InvalidArgument
[[nodiscard]] Phase phase_of(py::handle name);

[[nodiscard]] const char* name_of(Phase phase) noexcept;

}  // namespace kvroute::python
