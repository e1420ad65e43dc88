#include <cstddef>

#include "router_class.h"

namespace kvroute::python {

void bind_reservation(py::module_& module) {
  py::class_<ReservationFace>(module, "Reservation", py::is_final(),
                              "One running request's booked load on its target, from selection to "
                              "release. A context manager.")
      // A copy: a choice that is kept must not keep its reservation.
      .def_property_readonly("choice", &ReservationFace::choice, py::return_value_policy::copy)
      .def_property_readonly("request_id", &ReservationFace::request_id)
      .def_property_readonly("released", &ReservationFace::released)
      .def("first_token", &ReservationFace::first_token,
           "The prefill is done: its tokens no longer count as load.")
      .def("progress", &ReservationFace::progress, py::arg("output_tokens"),
           "Cumulative count of generated tokens.")
      .def("release", &ReservationFace::release, py::arg("output_token_ids") = py::none(),
           "Ends the booking.")
      .def("__enter__", [](py::object self) { return self; })
      .def(
          "__exit__",
          [](ReservationFace& self, py::handle, py::handle, py::handle) {
            self.release(py::none());
          },
          py::arg("exc_type"), py::arg("exc_value"), py::arg("traceback"));
}

void bind_allowed_set(py::module_& module) {
  py::class_<AllowedFace>(module, "AllowedSet", py::is_final(),
                          "Workers or ranks that requests allow, looked up once.")
      .def("__len__", [](const AllowedFace& face) { return face.allowed->refs().size(); });
}

}  // namespace kvroute::python
