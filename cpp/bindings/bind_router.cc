#include <memory>
#include <string>
#include <utility>

#include "arguments.h"
#include "pybind.h"
#include "router_class.h"
#include "router_face.h"

namespace kvroute::python {
namespace {

void bind_membership(RouterClass& router) {
  const auto none = py::none();
  router
      .def("add_worker", &RouterFace::add_worker, py::arg("worker"), py::arg("dp_ranks") = 1,
           py::arg("block_size") = none, py::arg("kv_events") = none, py::arg("kv_replay") = none,
           py::arg("load_events") = none, py::arg("total_blocks") = none, py::arg("labels") = none,
           "Adds a worker with `dp_ranks` targets.")
      .def("remove_worker", &RouterFace::remove_worker, py::arg("worker"),
           "Forgets the worker, its blocks and its bookings.")
      .def("workers", &RouterFace::workers, "Names in the order of adding.")
      .def("labels", &RouterFace::labels, py::arg("worker"))
      .def(
          "set_draining",
          [](RouterFace& self, py::handle worker, py::handle draining) {
            self.set_draining(worker, flag(draining, "draining"));
          },
          py::arg("worker"), py::arg("draining") = true,
          "A worker that drains is not chosen any more; what runs there goes on.")
      .def("set_loras", &RouterFace::set_loras, py::arg("worker"), py::arg("loras"),
           "The LoRA adapters that the worker has resident.")
      .def("allowed_set", &RouterFace::allowed_set, py::arg("workers"),
           "Workers or ranks for `allowed`, looked up once.")
      .def("update_load", &RouterFace::update_load, py::arg("worker"), py::arg("dp_rank") = 0,
           py::kw_only(), py::arg("waiting") = none, py::arg("running") = none,
           py::arg("kv_usage") = none, py::arg("kv_tokens") = none,
           "What the engine reports of itself.");
}

}  // namespace

void bind_router(py::module_& module) {
  bind_reservation(module);
  bind_allowed_set(module);
  const auto none = py::none();
  RouterClass router(module, "KvRouter", py::is_final(),
                     "Chooses, for each request, the engine that already holds its KV cache and "
                     "has room.");
  router.def(
      py::init([](py::handle block_size, py::handle policy, py::handle memory_limit,
                  py::handle seed, std::shared_ptr<VirtualClock> clock, py::handle predicted_ttl,
                  py::handle reservation_ttl, py::handle prefill_tokens_per_second,
                  py::handle attention_seconds, py::handle max_waiting, py::handle max_kv_usage,
                  py::handle max_prefill_tokens, py::handle recent_time_constant,
                  py::handle load_window, py::handle report_lifetime, py::handle decision_log,
                  py::handle fallback_policy) {
        auto face = std::make_unique<RouterFace>(
            RouterArguments{block_size, policy, memory_limit, seed, std::move(clock), predicted_ttl,
                            reservation_ttl, prefill_tokens_per_second, attention_seconds,
                            max_waiting, max_kv_usage, max_prefill_tokens, recent_time_constant,
                            load_window, report_lifetime, decision_log, fallback_policy});
        py::module_::import("kvroute._logging").attr("start")();
        return face;
      }),
      py::arg("block_size"), py::arg("policy") = "kv_cost", py::arg("memory_limit") = "1GiB",
      py::arg("seed") = none, py::arg("clock") = none, py::kw_only(),
      py::arg("predicted_ttl") = 120.0, py::arg("reservation_ttl") = 600.0,
      py::arg("prefill_tokens_per_second") = PrefillModel{}.tokens_per_second,
      py::arg("attention_seconds") = PrefillModel{}.attention_seconds,
      py::arg("max_waiting") = none, py::arg("max_kv_usage") = none,
      py::arg("max_prefill_tokens") = none, py::arg("recent_time_constant") = 30.0,
      py::arg("load_window") = 60.0, py::arg("report_lifetime") = 60.0, py::arg("decision_log") = 0,
      py::arg("fallback_policy") = "kv_cost");
  bind_membership(router);
  bind_decisions(router);
  bind_pairs(router);
  router
      .def_property_readonly("block_size", [](const RouterFace& r) { return r.use().block_size(); })
      .def_property_readonly("policy", &RouterFace::policy)
      .def_property_readonly("policy_spec", &RouterFace::policy_spec)
      .def_property_readonly("phase_policies", &RouterFace::phase_policies)
      .def("set_policy", &RouterFace::set_policy, py::arg("policy"),
           py::arg("fallback_policy") = py::none(), py::arg("phase") = py::none(),
           "Chooses by another policy from the next decision on.")
      .def("recent_decisions", &RouterFace::recent_decisions, py::arg("limit") = 100,
           "The last decisions with what they rested on, the oldest first.")
      .def("stats", &RouterFace::stats)
      .def("close", &RouterFace::close, "Stops the event thread and drops all state.")
      .def("__enter__", [](py::object self) { return self; })
      .def(
          "__exit__", [](RouterFace& self, py::handle, py::handle, py::handle) { self.close(); },
          py::arg("exc_type"), py::arg("exc_value"), py::arg("traceback"))
      .def("__reduce__", [](py::handle) -> py::object {
        throw py::type_error("KvRouter cannot be pickled: it has threads and locks");
      });
}

}  // namespace kvroute::python
