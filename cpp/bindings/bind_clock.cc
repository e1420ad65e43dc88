#include <memory>

#include "kvroute/base/clock.h"
#include "pybind.h"

namespace kvroute::python {

void bind_clock(py::module_& module) {
  py::class_<VirtualClock, std::shared_ptr<VirtualClock>>(
      module, "VirtualClock", py::is_final(),
      "A clock that moves only when told to; drives a router in simulations.")
      .def(py::init<>())
      .def("advance", &VirtualClock::advance, py::arg("seconds"),
           "Moves time forward. InvalidArgument if negative or not finite.")
      .def(
          "now", [](const VirtualClock& clock) { return ns_to_seconds(clock.now()); },
          "Seconds since the clock was made.");
}

}  // namespace kvroute::python
