#pragma once

#include "pybind.h"
#include "router_face.h"

namespace kvroute::python {

// Parts of the binding of kvroute.KvRouter, by topic.

using RouterClass = py::class_<RouterFace>;

void bind_decisions(RouterClass& router);
void bind_pairs(RouterClass& router);
void bind_reservation(py::module_& module);
void bind_allowed_set(py::module_& module);

}  // namespace kvroute::python
