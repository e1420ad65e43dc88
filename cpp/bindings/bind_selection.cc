#include <optional>
#include <string>

#include "kvroute/router/decision_record.h"
#include "kvroute/router/selection.h"
#include "pybind.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

py::str describe(const Selection& selection) {
  return py::str("Selection(worker={!r}, dp_rank={}, cached_tokens={}, prefill_tokens={}, cost={})")
      .format(to_python(selection.target.worker), selection.target.dp_rank, selection.cached_tokens,
              selection.prefill_tokens, selection.cost);
}

py::list alternatives(const Selection& selection) {
  py::list targets;
  for (const TargetId& target : selection.alternatives) targets.append(to_python(target));
  return targets;
}

py::dict terms(const TargetExplanation& target) {
  py::dict terms;
  for (const CostTerm& term : target.terms) {
    terms[py::str(term.name.data(), term.name.size())] = term.value;
  }
  return terms;
}

}  // namespace

void bind_selection(py::module_& module) {
  py::class_<Selection>(module, "Selection", py::is_final(),
                        "Where a request goes, and why. Immutable.")
      .def_property_readonly("worker",
                             [](const Selection& s) { return to_python(s.target.worker); })
      .def_property_readonly("dp_rank", [](const Selection& s) { return s.target.dp_rank; })
      .def_readonly("cached_tokens", &Selection::cached_tokens)
      .def_readonly("prefill_tokens", &Selection::prefill_tokens)
      .def_readonly("cost", &Selection::cost)
      .def_property_readonly("rule", [](const Selection& s) { return std::string(s.rule); })
      .def_property_readonly("alternatives", &alternatives)
      .def("__repr__", &describe);

  py::class_<TargetExplanation>(module, "TargetExplanation", py::is_final(),
                                "One target's part in a decision.")
      .def_property_readonly("worker",
                             [](const TargetExplanation& t) { return to_python(t.target.worker); })
      .def_property_readonly("dp_rank", [](const TargetExplanation& t) { return t.target.dp_rank; })
      .def_readonly("eligible", &TargetExplanation::eligible)
      .def_readonly("reason", &TargetExplanation::reason)
      .def_readonly("cost", &TargetExplanation::cost)
      .def_readonly("cached_tokens", &TargetExplanation::cached_tokens)
      .def_property_readonly("terms", &terms);

  py::class_<Explanation>(module, "Explanation", py::is_final(),
                          "Why a request would go where it would go. str() gives a table.")
      .def_property_readonly("policy", [](const Explanation& e) { return std::string(e.policy); })
      .def_property_readonly("rule", [](const Explanation& e) { return std::string(e.rule); })
      .def_readonly("num_tokens", &Explanation::num_tokens)
      .def_readonly("targets", &Explanation::targets)
      .def_property_readonly("text", &Explanation::text)
      .def("__str__", &Explanation::text);

  py::class_<DecisionRecord>(module, "Decision", py::is_final(),
                             "One decision of the past, with all that it rested on.")
      .def_property_readonly("time", [](const DecisionRecord& d) { return ns_to_seconds(d.at); })
      .def_property_readonly("request_id",
                             [](const DecisionRecord& d) -> std::optional<std::string> {
                               if (d.request_id.empty()) return std::nullopt;
                               return d.request_id;
                             })
      .def_property_readonly("worker",
                             [](const DecisionRecord& d) { return to_python(d.chosen.worker); })
      .def_property_readonly("dp_rank", [](const DecisionRecord& d) { return d.chosen.dp_rank; })
      .def_readonly("explanation", &DecisionRecord::explanation);
}

}  // namespace kvroute::python
