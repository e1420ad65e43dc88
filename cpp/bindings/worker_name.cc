#include "worker_name.h"

#include <cstdint>

#include "arguments.h"
#include "kvroute/base/error.h"

namespace kvroute::python {

WorkerName worker_name(py::handle object, const char* field) {
  if (PyUnicode_Check(object.ptr())) return std::string(*text_or_none(object, field));
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

WorkerRef worker_ref(py::handle object, const char* field) {
  if (PyTuple_Check(object.ptr()) && PyTuple_GET_SIZE(object.ptr()) == 2) {
    const auto pair = py::reinterpret_borrow<py::tuple>(object);
    return {worker_name(pair[0], field), unsigned_32(pair[1], field)};
  }
  return {worker_name(object, field), std::nullopt};
}

std::vector<WorkerRef> worker_refs(py::handle object, const char* field) {
  const std::string expected =
      std::string(field) + ": expected a sequence of workers or pairs (worker, dp_rank), got ";
  if (PyUnicode_Check(object.ptr()) || PyBytes_Check(object.ptr())) {
    throw InvalidArgument(expected + describe(object));
  }
  const auto items = py::reinterpret_steal<py::object>(PySequence_Tuple(object.ptr()));
  if (!items) {
    if (PyErr_ExceptionMatches(PyExc_TypeError) == 0) throw py::error_already_set();
    PyErr_Clear();
    throw InvalidArgument(expected + describe(object));
  }
  std::vector<WorkerRef> refs;
  refs.reserve(static_cast<std::size_t>(PyTuple_GET_SIZE(items.ptr())));
  for (const py::handle item : py::reinterpret_borrow<py::tuple>(items)) {
    refs.push_back(worker_ref(item, field));
  }
  return refs;
}

py::object to_python(const WorkerName& name) {
  if (const auto* number = std::get_if<std::int64_t>(&name)) return py::int_(*number);
  return py::str(std::get<std::string>(name));
}

py::tuple to_python(const TargetId& target) {
  return py::make_tuple(to_python(target.worker), target.dp_rank);
}

}  // namespace kvroute::python
