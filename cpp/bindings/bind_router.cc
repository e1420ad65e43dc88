#include "integer_input.h"
#include "kvroute/base/error.h"
#include "pybind.h"
#include "router_face.h"

namespace kvroute::python {
namespace {

void bind_reservation(py::module_& module) {
  py::class_<ReservationFace>(module, "Reservation", py::is_final(),
                              "One running request's booked load on its target, from selection to "
                              "release. A context manager.")
      .def_property_readonly("choice", &ReservationFace::choice)
      .def_property_readonly("request_id", &ReservationFace::request_id)
      .def_property_readonly("released", &ReservationFace::released)
      .def("first_token", &ReservationFace::first_token,
           "The prefill is done: its tokens no longer count as load.")
      .def(
          "progress",
          [](ReservationFace& self, std::int64_t output_tokens) {
            if (output_tokens < 0) {
              throw InvalidArgument("output_tokens: expected at least 0, got " +
                                    std::to_string(output_tokens));
            }
            self.progress(static_cast<std::uint64_t>(output_tokens));
          },
          py::arg("output_tokens"), "Cumulative count of generated tokens.")
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

}  // namespace

void bind_router(py::module_& module) {
  bind_reservation(module);
  const auto none = py::none();
  py::class_<RouterFace>(module, "KvRouter", py::is_final(),
                         "Chooses, for each request, the engine that already holds its KV cache "
                         "and has room.")
      .def(py::init([](std::int64_t block_size, std::string policy, py::handle memory_limit,
                       std::optional<std::uint64_t> seed, std::shared_ptr<VirtualClock> clock,
                       double predicted_ttl, double reservation_ttl) {
             if (block_size < 1 || block_size > 65'536) {
               throw InvalidArgument("block_size: expected 1 to 65536 tokens, got " +
                                     std::to_string(block_size));
             }
             py::module_::import("kvroute._logging").attr("start")();
             return std::make_unique<RouterFace>(static_cast<std::uint32_t>(block_size),
                                                 std::move(policy), memory_limit, seed,
                                                 std::move(clock), predicted_ttl, reservation_ttl);
           }),
           py::arg("block_size"), py::arg("policy") = "kv_cost", py::arg("memory_limit") = "1GiB",
           py::arg("seed") = none, py::arg("clock") = none, py::kw_only(),
           py::arg("predicted_ttl") = 120.0, py::arg("reservation_ttl") = 600.0)
      .def_property_readonly("block_size", [](const RouterFace& r) { return r.use().block_size(); })
      .def_property_readonly("policy",
                             [](const RouterFace& r) { return std::string(r.use().policy()); })
      .def("add_worker", &RouterFace::add_worker, py::arg("worker"), py::arg("dp_ranks") = 1,
           py::arg("block_size") = none, py::arg("kv_events") = none, py::arg("kv_replay") = none,
           py::arg("load_events") = none, py::arg("total_blocks") = none, py::arg("labels") = none,
           "Adds a worker with `dp_ranks` targets.")
      .def("remove_worker", &RouterFace::remove_worker, py::arg("worker"),
           "Forgets the worker, its blocks and its bookings.")
      .def("workers", &RouterFace::workers, "Names in the order of adding.")
      .def("labels", &RouterFace::labels, py::arg("worker"))
      .def("select_worker", &RouterFace::select_worker, py::arg("token_ids"),
           py::arg("allowed") = none, py::kw_only(), py::arg("session_id") = none,
           py::arg("lora") = none, py::arg("salt") = none, py::arg("namespace") = none,
           "Chooses a target among `allowed` workers (None: all). Books and predicts nothing.")
      .def("select_worker_by_hashes", &RouterFace::select_worker_by_hashes, py::arg("local_hashes"),
           py::arg("num_tokens"), py::arg("allowed") = none, py::kw_only(),
           py::arg("session_id") = none, "The same from local hashes computed elsewhere.")
      .def("reserve", &RouterFace::reserve, py::arg("token_ids"), py::arg("request_id") = none,
           py::arg("expected_output_tokens") = none, py::arg("allowed") = none, py::kw_only(),
           py::arg("session_id") = none, py::arg("lora") = none, py::arg("salt") = none,
           py::arg("namespace") = none, "Select, book and predict in one critical section.")
      .def("explain", &RouterFace::explain, py::arg("token_ids"), py::arg("allowed") = none,
           py::kw_only(), py::arg("session_id") = none, py::arg("lora") = none,
           py::arg("salt") = none, py::arg("namespace") = none,
           "Every target and every term of its cost. Changes nothing.")
      .def("overlaps", &RouterFace::overlaps, py::arg("token_ids"), py::kw_only(),
           py::arg("lora") = none, py::arg("salt") = none, py::arg("namespace") = none,
           "Cached tokens of each target that holds at least one leading block.")
      .def("update_load", &RouterFace::update_load, py::arg("worker"), py::arg("dp_rank") = 0,
           py::kw_only(), py::arg("waiting") = none, py::arg("running") = none,
           py::arg("kv_usage") = none, "What the engine reports of itself.")
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
