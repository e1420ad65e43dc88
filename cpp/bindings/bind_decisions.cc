#include <array>
#include <cstddef>
#include <functional>
#include <utility>

#include "router_class.h"

namespace kvroute::python {
namespace {

/// As RequestArguments has them.
constexpr std::array kKeywords{
    "session_id",           "lora",          "salt",        "namespace",
    "overlap_credit",       "prefill_scale", "temperature", "assume_kv_reuse",
    "track_prefill_tokens", "pinned",        "dp_ranks",    "labels",
    "preferred_labels",     "model",         "phase"};

template <std::size_t>
using Handle = py::handle;

/// Defines a method with arguments of its own, described by `own`, and then those of
/// RequestArguments by keyword.
template <typename Method, std::size_t... Own, std::size_t... Shared, typename... Extra>
void define(RouterClass& router, const char* name, const char* doc, Method method,
            std::index_sequence<Own...> /*counts*/, std::index_sequence<Shared...> /*them*/,
            const Extra&... own) {
  router.def(
      name,
      [method](RouterFace& self, Handle<Own>... values, Handle<Shared>... shared) {
        return std::invoke(method, self, values..., RequestArguments{shared...});
      },
      own..., (py::arg(kKeywords[Shared]) = py::none())..., doc);
}

}  // namespace

void bind_decisions(RouterClass& router) {
  const auto none = py::none();
  const auto shared = std::make_index_sequence<kKeywords.size()>();
  define(router, "select_worker",
         "Chooses a target among `allowed` (None: all). Books and predicts nothing.",
         &RouterFace::select_worker, std::make_index_sequence<3>(), shared, py::arg("token_ids"),
         py::arg("allowed") = none, py::kw_only(), py::arg("expected_output_tokens") = none);
  define(router, "reserve", "Select, book and predict in one critical section.",
         &RouterFace::reserve, std::make_index_sequence<4>(), shared, py::arg("token_ids"),
         py::arg("request_id") = none, py::arg("expected_output_tokens") = none,
         py::arg("allowed") = none, py::kw_only());
  define(router, "explain", "Every target and every term of its cost. Changes nothing.",
         &RouterFace::explain, std::make_index_sequence<3>(), shared, py::arg("token_ids"),
         py::arg("allowed") = none, py::kw_only(), py::arg("expected_output_tokens") = none);
  router
      .def(
          "select_worker_by_hashes",
          [](RouterFace& self, py::handle local_hashes, py::handle num_tokens, py::handle allowed,
             py::handle expected_output_tokens, py::handle session_id, py::handle lora,
             py::handle overlap_credit, py::handle prefill_scale, py::handle temperature,
             py::handle assume_kv_reuse, py::handle track_prefill_tokens, py::handle pinned,
             py::handle dp_ranks, py::handle labels, py::handle preferred_labels, py::handle model,
             py::handle phase) {
            return self.select_worker_by_hashes(
                local_hashes, num_tokens, allowed, expected_output_tokens,
                {session_id, lora, Py_None, Py_None, overlap_credit, prefill_scale, temperature,
                 assume_kv_reuse, track_prefill_tokens, pinned, dp_ranks, labels, preferred_labels,
                 model, phase});
          },
          py::arg("local_hashes"), py::arg("num_tokens"), py::arg("allowed") = none, py::kw_only(),
          py::arg("expected_output_tokens") = none, py::arg("session_id") = none,
          py::arg("lora") = none, py::arg("overlap_credit") = none, py::arg("prefill_scale") = none,
          py::arg("temperature") = none, py::arg("assume_kv_reuse") = none,
          py::arg("track_prefill_tokens") = none, py::arg("pinned") = none,
          py::arg("dp_ranks") = none, py::arg("labels") = none, py::arg("preferred_labels") = none,
          py::arg("model") = none, py::arg("phase") = none,
          "The same from local hashes computed elsewhere.")
      .def("overlaps", &RouterFace::overlaps, py::arg("token_ids"), py::kw_only(),
           py::arg("tier") = "device", py::arg("lora") = none, py::arg("salt") = none,
           py::arg("namespace") = none,
           "Cached tokens of each target that holds at least one leading block, in any tier from "
           "the device to `tier`.");
}

}  // namespace kvroute::python
