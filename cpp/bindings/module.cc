#include <string>

#include "gil_release.h"
#include "pybind.h"

// Table of contents of kvroute._core.

#define KVROUTE_TEXT_OF(x) #x
#define KVROUTE_TEXT(x) KVROUTE_TEXT_OF(x)

namespace {

kvroute::python::py::dict build_info() {
  kvroute::python::py::dict info;
  info["version"] = KVROUTE_VERSION;
#if defined(__clang__)
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["cplusplus"] = std::to_string(__cplusplus);
  info["pybind11"] = KVROUTE_TEXT(PYBIND11_VERSION_MAJOR) "." KVROUTE_TEXT(
      PYBIND11_VERSION_MINOR) "." KVROUTE_TEXT(PYBIND11_VERSION_PATCH);
#ifdef NDEBUG
  info["assertions"] = "off";
#else
  info["assertions"] = "on";
#endif
  return info;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  using namespace kvroute::python;  // NOLINT(google-build-using-namespace): the table's own topics
  module.doc() = "kvroute's native core; see the type stub for the contract.";
  module.attr("__version__") = KVROUTE_VERSION;
  module.attr("build_info") = build_info();
  bind_errors(module);
  bind_log(module);
  bind_hash(module);
  bind_clock(module);
  bind_policy(module);
  bind_features(module);
  bind_selection(module);
  bind_stats(module);
  bind_index(module);
  bind_router(module);
  py::module_::import("atexit").attr("register")(py::cpp_function(&park_returning_threads));
}
