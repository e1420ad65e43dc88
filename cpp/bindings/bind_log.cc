#include "gil_release.h"
#include "kvroute/base/log.h"
#include "pybind.h"

namespace kvroute::python {
namespace {

py::object next_record(double timeout) {
  std::optional<LogRecord> record;
  {
    const GilRelease released;
    record = next_log_record(timeout);
  }
  if (!record) return py::none();
  return py::make_tuple(static_cast<int>(record->level), record->message);
}

}  // namespace

void bind_log(py::module_& module) {
  module.def("_next_log_record", &next_record, py::arg("timeout"),
             "Oldest record of the core's log as (level, message); None after `timeout` seconds.");
  module.def("_close_log", &close_log, "Wakes and ends every reader of the core's log.");
}

}  // namespace kvroute::python
