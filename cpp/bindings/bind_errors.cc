#include <exception>
#include <utility>

#include "kvroute/base/error.h"
#include "phase_name.h"
#include "pybind.h"

namespace kvroute::python {
namespace {

// Never released: exceptions may be translated until the interpreter is gone.
py::handle make_error(py::module_& module, const char* name, const py::tuple& bases,
                      const char* doc) {
  py::dict attributes;
  attributes["__module__"] = "kvroute";
  attributes["__doc__"] = doc;
  const py::handle type_of_types(reinterpret_cast<PyObject*>(&PyType_Type));
  py::object error = type_of_types(name, bases, attributes);
  module.attr(name) = error;
  return error.release();
}

py::handle g_error;
py::handle g_invalid_argument;
py::handle g_unknown_worker;
py::handle g_no_eligible_worker;
py::handle g_overloaded;

void set_error(py::handle type, const NoEligibleWorker& error) {
  const py::object instance = type(error.what());
  if (error.phase() != Phase::kWhole) instance.attr("_phase") = name_of(error.phase());
  PyErr_SetObject(type.ptr(), instance.ptr());
}

}  // namespace

void bind_errors(py::module_& module) {
  const auto builtin = [](PyObject* type) { return py::reinterpret_borrow<py::object>(type); };
  g_error = make_error(module, "KvRouteError", py::make_tuple(builtin(PyExc_Exception)),
                       "Root of kvroute's errors.");
  const auto root = py::reinterpret_borrow<py::object>(g_error);
  g_invalid_argument =
      make_error(module, "InvalidArgument", py::make_tuple(root, builtin(PyExc_ValueError)),
                 "An argument is malformed or out of range; the message names it.");
  g_unknown_worker =
      make_error(module, "UnknownWorker", py::make_tuple(root, builtin(PyExc_KeyError)),
                 "A worker is named that was never added, or has been removed.");
  // A KeyError shows the repr of its argument; ours is a sentence.
  g_unknown_worker.attr("__str__") = builtin(PyExc_Exception).attr("__str__");
  g_no_eligible_worker =
      make_error(module, "NoEligibleWorker", py::make_tuple(root, builtin(PyExc_RuntimeError)),
                 "There is nobody to choose.");
  const py::handle property(reinterpret_cast<PyObject*>(&PyProperty_Type));
  g_no_eligible_worker.attr("_phase") = py::none();
  g_no_eligible_worker.attr("phase") =
      property(py::module_::import("operator").attr("attrgetter")("_phase"));
  g_overloaded =
      make_error(module, "Overloaded",
                 py::make_tuple(py::reinterpret_borrow<py::object>(g_no_eligible_worker)),
                 "All who would be eligible are overloaded; a later try may find room.");

  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(std::move(pointer));
    } catch (const InvalidArgument& error) {
      PyErr_SetString(g_invalid_argument.ptr(), error.what());
    } catch (const UnknownWorker& error) {
      PyErr_SetString(g_unknown_worker.ptr(), error.what());
    } catch (const Overloaded& error) {
      set_error(g_overloaded, error);
    } catch (const NoEligibleWorker& error) {
      set_error(g_no_eligible_worker, error);
    } catch (const Error& error) {
      PyErr_SetString(g_error.ptr(), error.what());
    }
  });
}

}  // namespace kvroute::python
