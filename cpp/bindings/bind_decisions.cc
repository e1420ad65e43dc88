#include <array>
#include <cstddef>
#include <functional>
#include <utility>

#include "router_class.h"

namespace kvroute::python {
namespace {

struct Keyword {
  const char* name;
  py::handle RequestArguments::*field;
};
constexpr std::array kKeywords{
    Keyword{"alternatives", &RequestArguments::alternatives},
    Keyword{"session_id", &RequestArguments::session_id},
    Keyword{"lora", &RequestArguments::lora},
    Keyword{"overlap_credit", &RequestArguments::overlap_credit},
    Keyword{"prefill_scale", &RequestArguments::prefill_scale},
    Keyword{"temperature", &RequestArguments::temperature},
    Keyword{"assume_kv_reuse", &RequestArguments::assume_kv_reuse},
    Keyword{"track_prefill_tokens", &RequestArguments::track_prefill_tokens},
    Keyword{"pinned", &RequestArguments::pinned},
    Keyword{"dp_ranks", &RequestArguments::dp_ranks},
    Keyword{"labels", &RequestArguments::labels},
    Keyword{"preferred_labels", &RequestArguments::preferred_labels},
    Keyword{"model", &RequestArguments::model},
    Keyword{"phase", &RequestArguments::phase},
    Keyword{"salt", &RequestArguments::salt},
    Keyword{"namespace", &RequestArguments::name_space},
};

/// Numbers of `First` to `Last`, without it.
template <std::size_t First, std::size_t... Offsets>
constexpr std::index_sequence<First + Offsets...> shifted(std::index_sequence<Offsets...> /*by*/) {
  return {};
}
constexpr auto kAll = std::make_index_sequence<kKeywords.size()>();
constexpr auto kOfHashes = std::make_index_sequence<kKeywords.size() - 2>();  // these name the rest
constexpr auto kOfExplain = shifted<1>(std::make_index_sequence<kKeywords.size() - 1>());

template <std::size_t>
using Handle = py::handle;

/// Defines a method with `Own` arguments, described by `own`, and then these of kKeywords.
template <std::size_t... Own, typename Method, std::size_t... Shared, typename... Extra>
void define(RouterClass& router, const char* name, const char* doc, Method method,
            std::index_sequence<Own...> /*counts*/, std::index_sequence<Shared...> /*them*/,
            const Extra&... own) {
  const auto absent = [](const char* keyword) {
    return keyword == kKeywords.front().name ? py::object(py::int_(0)) : py::object(py::none());
  };
  router.def(
      name,
      [method](RouterFace& self, Handle<Own>... values, Handle<Shared>... shared) {
        RequestArguments arguments;
        ((arguments.*kKeywords[Shared].field = shared), ...);
        return std::invoke(method, self, values..., arguments);
      },
      own..., (py::arg(kKeywords[Shared].name) = absent(kKeywords[Shared].name))..., doc);
}

}  // namespace

void bind_decisions(RouterClass& router) {
  const auto none = py::none();
  constexpr auto kThree = std::make_index_sequence<3>();
  define(router, "select_worker",
         "Chooses a target among `allowed` (None: all). Books and predicts nothing.",
         &RouterFace::select_worker, kThree, kAll, py::arg("token_ids"), py::arg("allowed") = none,
         py::kw_only(), py::arg("expected_output_tokens") = none);
  define(router, "select_worker_by_hashes", "The same from local hashes computed elsewhere.",
         &RouterFace::select_worker_by_hashes, std::make_index_sequence<4>(), kOfHashes,
         py::arg("local_hashes"), py::arg("num_tokens"), py::arg("allowed") = none, py::kw_only(),
         py::arg("expected_output_tokens") = none);
  define(router, "reserve", "Select, book and predict in one critical section.",
         &RouterFace::reserve, std::make_index_sequence<4>(), kAll, py::arg("token_ids"),
         py::arg("request_id") = none, py::arg("expected_output_tokens") = none,
         py::arg("allowed") = none, py::kw_only());
  define(router, "reserve_by_hashes", "The same from local hashes computed elsewhere.",
         &RouterFace::reserve_by_hashes, std::make_index_sequence<5>(), kOfHashes,
         py::arg("local_hashes"), py::arg("num_tokens"), py::arg("request_id") = none,
         py::arg("expected_output_tokens") = none, py::arg("allowed") = none, py::kw_only());
  define(router, "explain", "Every target and every term of its cost. Changes nothing.",
         &RouterFace::explain, kThree, kOfExplain, py::arg("token_ids"), py::arg("allowed") = none,
         py::kw_only(), py::arg("expected_output_tokens") = none);
  router.def("overlaps", &RouterFace::overlaps, py::arg("token_ids"), py::kw_only(),
             py::arg("tier") = "device", py::arg("lora") = none, py::arg("salt") = none,
             py::arg("namespace") = none,
             "Cached tokens of each target that holds at least one leading block, in any tier from "
             "the device to `tier`.");
}

}  // namespace kvroute::python
