#include "kvroute/policy/pair_choice.h"
#include "router_class.h"

namespace kvroute::python {

void bind_pairs(RouterClass& router) {
  const auto none = py::none();
  const PairOptions usual;
  router
      .def(
          "reserve_pair",
          [](RouterFace& self, py::handle token_ids, py::handle request_id,
             py::handle expected_output_tokens, py::handle prefill_allowed,
             py::handle decode_allowed, py::handle lora, py::handle salt, py::handle name_space,
             py::handle labels, py::handle model) {
            return self.reserve_pair(
                request_id, {token_ids, expected_output_tokens, prefill_allowed, decode_allowed,
                             lora, salt, name_space, labels, model});
          },
          py::arg("token_ids"), py::arg("request_id") = none,
          py::arg("expected_output_tokens") = none, py::kw_only(),
          py::arg("prefill_allowed") = none, py::arg("decode_allowed") = none,
          py::arg("lora") = none, py::arg("salt") = none, py::arg("namespace") = none,
          py::arg("labels") = none, py::arg("model") = none,
          "Chooses who computes the prompt and who gives the answer together, and books both.")
      .def(
          "explain_pair",
          [](const RouterFace& self, py::handle token_ids, py::handle expected_output_tokens,
             py::handle prefill_allowed, py::handle decode_allowed, py::handle lora,
             py::handle salt, py::handle name_space, py::handle labels, py::handle model) {
            return self.explain_pair({token_ids, expected_output_tokens, prefill_allowed,
                                      decode_allowed, lora, salt, name_space, labels, model});
          },
          py::arg("token_ids"), py::kw_only(), py::arg("expected_output_tokens") = none,
          py::arg("prefill_allowed") = none, py::arg("decode_allowed") = none,
          py::arg("lora") = none, py::arg("salt") = none, py::arg("namespace") = none,
          py::arg("labels") = none, py::arg("model") = none,
          "Each leg's candidates, and every term of their costs beside the other leg's target.")
      .def(
          "set_pair_choice",
          [](RouterFace& self, py::handle same_host, py::handle same_zone, py::handle elsewhere,
             py::handle step, py::handle decode_steps) {
            self.set_pair_choice({same_host, same_zone, elsewhere, step, decode_steps});
          },
          py::kw_only(), py::arg("same_host") = usual.same_host,
          py::arg("same_zone") = usual.same_zone, py::arg("elsewhere") = usual.elsewhere,
          py::arg("step") = usual.step, py::arg("decode_steps") = usual.decode_steps,
          "What pairs are chosen by, from the next one on.")
      .def_property_readonly("pair_choice", &RouterFace::pair_choice);
}

}  // namespace kvroute::python
