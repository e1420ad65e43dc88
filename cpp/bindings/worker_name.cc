#include "worker_name.h"

#include <cstdint>

#include "kvroute/base/error.h"

namespace kvroute::python {

WorkerName worker_name(py::handle object, const char* field) {
  if (PyUnicode_Check(object.ptr())) return object.cast<std::string>();
  if (PyLong_Check(object.ptr()) && !PyBool_Check(object.ptr())) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(object.ptr(), &overflow);
    if (overflow == 0) return std::int64_t{number};
    throw InvalidArgument(std::string(field) + ": expected a str or an int of 64 bits, got " +
                          py::str(object).cast<std::string>());
  }
  throw InvalidArgument(std::string(field) + ": expected a str or an int, got " +
                        Py_TYPE(object.ptr())->tp_name);
}

std::vector<WorkerName> worker_names(py::handle object, const char* field) {
  if (PyUnicode_Check(object.ptr()) || PyBytes_Check(object.ptr())) {
    throw InvalidArgument(std::string(field) + ": expected a sequence of worker names, got the " +
                          Py_TYPE(object.ptr())->tp_name + " " +
                          py::repr(object).cast<std::string>());
  }
  const auto items = py::reinterpret_steal<py::object>(PySequence_Tuple(object.ptr()));
  if (!items) {
    PyErr_Clear();
    throw InvalidArgument(std::string(field) + ": expected a sequence of worker names, got " +
                          Py_TYPE(object.ptr())->tp_name);
  }
  std::vector<WorkerName> names;
  names.reserve(static_cast<std::size_t>(PyTuple_GET_SIZE(items.ptr())));
  for (const py::handle item : py::reinterpret_borrow<py::tuple>(items)) {
    names.push_back(worker_name(item, field));
  }
  return names;
}

py::object to_python(const WorkerName& name) {
  if (const auto* number = std::get_if<std::int64_t>(&name)) return py::int_(*number);
  return py::str(std::get<std::string>(name));
}

py::tuple to_python(const TargetId& target) {
  return py::make_tuple(to_python(target.worker), target.dp_rank);
}

}  // namespace kvroute::python
