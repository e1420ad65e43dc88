#include "python_scoring.h"

#include <algorithm>
#include <string>
#include <utility>

#include "arguments.h"
#include "gil_release.h"
#include "kvroute/base/error.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

py::dict fleet_figures(const FeaturesFace& face) {
  const FleetLoad& fleet = face.features->fleet;
  py::dict figures;
  figures["targets"] = static_cast<double>(fleet.targets);
  figures["prefill_tokens_per_second"] = fleet.prefill.tokens_per_second;
  figures["attention_seconds"] = fleet.prefill.attention_seconds;
  figures["prefill_scale"] = fleet.prefill_scale.value(1);
  figures["prefill_seconds"] = fleet.prefill_seconds.value();
  figures["decode_seconds"] = fleet.decode_seconds.value();
  figures["output_tokens"] = fleet.output_tokens.value();
  figures["arrival_rate"] = fleet.arrivals_per_target(face.features->now);
  return figures;
}

}  // namespace

bool PythonScoring::is_policy(py::handle object) {
  return !PyUnicode_Check(object.ptr()) && !PyDict_Check(object.ptr()) &&
         py::hasattr(object, "score");
}

PythonScoring::PythonScoring(py::handle policy)
    : scorer_(py::module_::import("kvroute.python_policy").attr("Scorer")(policy)) {
  rule_.temperature = number(scorer_.attr("temperature"), "policy.temperature");
  const bool is_warm = rule_.temperature >= 0 && rule_.temperature <= 100;  // not so: NaN
  if (!is_warm) {
    throw InvalidArgument("policy.temperature: expected a number from 0 to 100, got " +
                          describe(scorer_.attr("temperature")));
  }
  rule_.sample = static_cast<std::uint32_t>(
      integer(scorer_.attr("sample"), "policy.sample", 0, static_cast<std::int64_t>(kMaxTargets)));
}

PythonCosts::PythonCosts(const PythonScoring* scoring, const Router& router,
                         PythonRequest& request) {
  if (scoring == nullptr) return;
  {
    const GilRelease released;
    features_ = std::make_shared<const Features>(router.features(request.get()));
  }
  const py::object costs = scoring->scorer_(FeaturesFace{features_});
  if (costs.is_none()) {
    request.fail_scoring();
    return;
  }
  costs_.emplace(py::reinterpret_borrow<py::buffer>(costs).request());
  given_ = {.features = features_.get(),
            .costs = {static_cast<const double*>(costs_->ptr), features_->slots.size()},
            .rule = scoring->rule_};
  request.give(given_);
}

void bind_features(py::module_& module) {
  py::class_<FeaturesFace>(module, "_Features", py::is_final(), py::buffer_protocol(),
                           "Figures of all eligible targets, by feature and then by target.")
      .def_buffer([](const FeaturesFace& face) {
        const auto& values = face.features->values;
        return py::buffer_info(const_cast<double*>(values.data()), sizeof(double),
                               py::format_descriptor<double>::format(), 1, {values.size()},
                               {sizeof(double)}, /*readonly=*/true);
      })
      .def_property_readonly("values",
                             [](py::object self) {
                               PyObject* const view = PyMemoryView_FromObject(self.ptr());
                               if (view == nullptr) throw py::error_already_set();
                               return py::reinterpret_steal<py::object>(view);
                             })
      .def_property_readonly("num_tokens",
                             [](const FeaturesFace& face) { return face.features->num_tokens; })
      .def_property_readonly("router_block_size",
                             [](const FeaturesFace& face) { return face.features->block_size; })
      .def_property_readonly("session_id",
                             [](const FeaturesFace& face) -> std::optional<std::string> {
                               const std::string& id = face.features->session_id;
                               return id.empty() ? std::nullopt : std::optional(id);
                             })
      .def_property_readonly(
          "expected_output_tokens",
          [](const FeaturesFace& face) { return face.features->expected_output_tokens; })
      .def_property_readonly("fleet", &fleet_figures)
      .def_property_readonly("names",
                             [](const FeaturesFace&) {
                               py::list names;
                               for (const auto name : kFeatureNames)
                                 names.append(std::string(name));
                               return names;
                             })
      .def_property_readonly("targets",
                             [](const FeaturesFace& face) {
                               py::list targets;
                               for (std::size_t i = 0; i < face.features->slots.size(); ++i) {
                                 targets.append(to_python(face.features->target(i)));
                               }
                               return targets;
                             })
      .def(
          "index",
          [](const FeaturesFace&, const std::string& name) -> std::ptrdiff_t {
            const auto found = std::ranges::find(kFeatureNames, name);
            return found == kFeatureNames.end() ? -1 : found - kFeatureNames.begin();
          },
          py::arg("name"));
}

}  // namespace kvroute::python
