#include <memory>
#include <string>
#include <utility>

#include "policy_spec_input.h"
#include "pybind.h"
#include "router_face.h"

namespace kvroute::python {
namespace {

void bind_reservation(py::module_& module) {
  py::class_<ReservationFace>(module, "Reservation", py::is_final(),
                              "One running request's booked load on its target, from selection to "
                              "release. A context manager.")
      // A copy: a choice that is kept must not keep its reservation.
      .def_property_readonly("choice", &ReservationFace::choice, py::return_value_policy::copy)
      .def_property_readonly("request_id", &ReservationFace::request_id)
      .def_property_readonly("released", &ReservationFace::released)
      .def("first_token", &ReservationFace::first_token,
           "The prefill is done: its tokens no longer count as load.")
      .def("progress", &ReservationFace::progress, py::arg("output_tokens"),
           "Cumulative count of generated tokens.")
      .def("release", &ReservationFace::release, py::arg("output_token_ids") = py::none(),
           "Ends the booking.")
      .def("__enter__", [](py::object self) { return self; })
      .def(
          "__exit__",
          [](ReservationFace& self, py::handle, py::handle, py::handle) {
            self.release(py::none());
          },
          py::arg("exc_type"), py::arg("exc_value"), py::arg("traceback"));
}

using RouterClass = py::class_<RouterFace>;

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
      .def("update_load", &RouterFace::update_load, py::arg("worker"), py::arg("dp_rank") = 0,
           py::kw_only(), py::arg("waiting") = none, py::arg("running") = none,
           py::arg("kv_usage") = none, "What the engine reports of itself.");
}

void bind_decisions(RouterClass& router) {
  const auto none = py::none();
  router
      .def(
          "select_worker",
          [](RouterFace& self, py::handle token_ids, py::handle allowed, py::handle session_id,
             py::handle lora, py::handle salt, py::handle name_space) {
            return self.select_worker(token_ids, {allowed, session_id, lora, salt, name_space});
          },
          py::arg("token_ids"), py::arg("allowed") = none, py::kw_only(),
          py::arg("session_id") = none, py::arg("lora") = none, py::arg("salt") = none,
          py::arg("namespace") = none,
          "Chooses a target among `allowed` (None: all). Books and predicts nothing.")
      .def("select_worker_by_hashes", &RouterFace::select_worker_by_hashes, py::arg("local_hashes"),
           py::arg("num_tokens"), py::arg("allowed") = none, py::kw_only(),
           py::arg("session_id") = none, "The same from local hashes computed elsewhere.")
      .def(
          "reserve",
          [](RouterFace& self, py::handle token_ids, py::handle request_id,
             py::handle expected_output_tokens, py::handle allowed, py::handle session_id,
             py::handle lora, py::handle salt, py::handle name_space) {
            return self.reserve(token_ids, request_id, expected_output_tokens,
                                {allowed, session_id, lora, salt, name_space});
          },
          py::arg("token_ids"), py::arg("request_id") = none,
          py::arg("expected_output_tokens") = none, py::arg("allowed") = none, py::kw_only(),
          py::arg("session_id") = none, py::arg("lora") = none, py::arg("salt") = none,
          py::arg("namespace") = none, "Select, book and predict in one critical section.")
      .def(
          "explain",
          [](const RouterFace& self, py::handle token_ids, py::handle allowed,
             py::handle session_id, py::handle lora, py::handle salt, py::handle name_space) {
            return self.explain(token_ids, {allowed, session_id, lora, salt, name_space});
          },
          py::arg("token_ids"), py::arg("allowed") = none, py::kw_only(),
          py::arg("session_id") = none, py::arg("lora") = none, py::arg("salt") = none,
          py::arg("namespace") = none, "Every target and every term of its cost. Changes nothing.")
      .def("overlaps", &RouterFace::overlaps, py::arg("token_ids"), py::kw_only(),
           py::arg("tier") = "device", py::arg("lora") = none, py::arg("salt") = none,
           py::arg("namespace") = none,
           "Cached tokens of each target that holds at least one leading block, in any tier from "
           "the device to `tier`.");
}

}  // namespace

void bind_router(py::module_& module) {
  bind_reservation(module);
  const auto none = py::none();
  RouterClass router(module, "KvRouter", py::is_final(),
                     "Chooses, for each request, the engine that already holds its KV cache and "
                     "has room.");
  router.def(py::init([](py::handle block_size, py::handle policy, py::handle memory_limit,
                         py::handle seed, std::shared_ptr<VirtualClock> clock,
                         py::handle predicted_ttl, py::handle reservation_ttl) {
               auto face =
                   std::make_unique<RouterFace>(block_size, policy, memory_limit, seed,
                                                std::move(clock), predicted_ttl, reservation_ttl);
               py::module_::import("kvroute._logging").attr("start")();
               return face;
             }),
             py::arg("block_size"), py::arg("policy") = "kv_cost", py::arg("memory_limit") = "1GiB",
             py::arg("seed") = none, py::arg("clock") = none, py::kw_only(),
             py::arg("predicted_ttl") = 120.0, py::arg("reservation_ttl") = 600.0);
  bind_membership(router);
  bind_decisions(router);
  router
      .def_property_readonly("block_size", [](const RouterFace& r) { return r.use().block_size(); })
      .def_property_readonly("policy", [](const RouterFace& r) { return r.use().policy(); })
      .def_property_readonly("policy_spec",
                             [](const RouterFace& r) { return to_python(r.use().policy_spec()); })
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
