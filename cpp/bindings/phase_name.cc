#include "phase_name.h"

#include "arguments.h"
#include "kvroute/base/error.h"

namespace kvroute::python {

const char* name_of(Phase phase) noexcept {
  switch (phase) {
    case Phase::kWhole: return "whole";
    case Phase::kPrefill: return "prefill";
    case Phase::kDecode: return "decode";
  }
  return "";
}

Phase phase_of(py::handle name) {
  if (name.is_none()) return Phase::kWhole;
  const auto text = PyUnicode_Check(name.ptr()) != 0 ? text_or_none(name, "phase") : std::nullopt;
  if (text == "whole") return Phase::kWhole;
  if (text == "prefill") return Phase::kPrefill;
  if (text == "decode") return Phase::kDecode;
  throw InvalidArgument("phase: expected None, 'whole', 'prefill' or 'decode', got " +
                        describe(name));
}

}  // namespace kvroute::python
