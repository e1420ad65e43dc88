#include "overlap_mapping.h"

#include <string>

#include "integer_input.h"
#include "worker_name.h"

namespace kvroute::python {

OverlapMapping::OverlapMapping(const std::vector<std::pair<TargetId, std::uint32_t>>& depths) {
  values_.reserve(depths.size());
  for (const auto& [target, depth] : depths) {
    depths_[to_python(target)] = depth;
    values_.push_back(depth);
  }
}

py::tuple OverlapMapping::arrays() const {
  return py::make_tuple(py::list(depths_), to_array(values_));
}

void bind_overlaps(py::module_& module) {
  py::class_<OverlapMapping> overlaps(
      module, "Overlaps", py::is_final(),
      "A mapping {(worker, dp_rank): depth in blocks} of the targets with a depth of at least 1.");
  overlaps
      .def(
          "__getitem__",
          [](const OverlapMapping& self, py::handle key) {
            return self.depths().attr("__getitem__")(key);
          },
          py::arg("key"), py::pos_only())
      .def("__iter__", [](const OverlapMapping& self) { return py::iter(self.depths()); })
      .def("__len__", [](const OverlapMapping& self) { return self.depths().size(); })
      .def("__contains__",
           [](const OverlapMapping& self, py::handle key) { return self.depths().contains(key); })
      .def("__eq__",
           [](const OverlapMapping& self, py::handle other) {
             return self.depths().equal(
                 py::isinstance<OverlapMapping>(other)
                     ? py::object(other.cast<const OverlapMapping&>().depths())
                     : py::reinterpret_borrow<py::object>(other));
           })
      .def("__repr__",
           [](const OverlapMapping& self) {
             return "Overlaps(" + py::repr(self.depths()).cast<std::string>() + ")";
           })
      .def("arrays", &OverlapMapping::arrays,
           "Targets, and their depths as array('I'), in the same order.");
  for (const char* name : {"keys", "values", "items"}) {
    overlaps.def(name, [name](const OverlapMapping& self) { return self.depths().attr(name)(); });
  }
  overlaps.def(
      "get",
      [](const OverlapMapping& self, py::handle key, py::handle fallback) {
        return self.depths().attr("get")(key, fallback);
      },
      py::arg("key"), py::arg("default") = py::none());
  overlaps.attr("__hash__") = py::none();
  py::module_::import("collections.abc").attr("Mapping").attr("register")(overlaps);
}

}  // namespace kvroute::python
