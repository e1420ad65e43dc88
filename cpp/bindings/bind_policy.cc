#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "kvroute/policy/policy.h"
#include "policy_spec_input.h"
#include "pybind.h"
#include "stated_input.h"

namespace kvroute::python {
namespace {

std::vector<double> costs_of(const Policy& decider, const ScoreInput& input) {
  std::vector<double> costs(input.candidates.size());
  decider.score(input, costs);
  return costs;
}

py::list score(py::handle policy, py::handle targets, py::handle fleet,
               const StatedRequest& request) {
  const auto made = make_policy(policy_spec(policy, "policy"));
  const StatedInput stated(targets, fleet, request);
  const ScoreInput input = stated.input();
  const Policy& decider = made->decider(input);
  py::list costs;
  for (const double cost : costs_of(decider, input)) {
    costs.append(decider.has_cost() ? py::object(py::float_(cost)) : py::object(py::none()));
  }
  return costs;
}

py::tuple decide(py::handle policy, py::handle targets, py::handle fleet, py::handle seed,
                 const StatedRequest& request) {
  const auto made = make_policy(policy_spec(policy, "policy"));
  const auto given_seed = unsigned_64_or_none(seed, "seed");
  const StatedInput stated(targets, fleet, request);
  const ScoreInput input = stated.input();
  const Policy& decider = made->decider(input);
  PickState state(given_seed ? *given_seed : Random::entropy());
  const std::size_t chosen = decider.pick(input, costs_of(decider, input), state);
  return py::make_tuple(chosen, std::string(decider.name()));
}

}  // namespace

void bind_policy(py::module_& module) {
  const auto none = py::none();
  module.def(
      "policy_names",
      [] {
        py::list names;
        for (const std::string_view name : policy_names()) names.append(std::string(name));
        return names;
      },
      "Names that `policy=` takes, without aliases.");
  module.def(
      "policy_needs_tokens",
      [](py::handle policy) { return make_policy(policy_spec(policy, "policy"))->needs_overlap(); },
      py::arg("policy"), "Whether a policy looks at what targets hold of the prompt.");
  module.def(
      "score",
      [](py::handle policy, py::handle targets, py::handle num_tokens, py::handle block_size,
         py::handle local_hashes, py::handle session_id, py::handle expected_output_tokens,
         py::handle now, py::handle fleet, py::handle overlap_credit, py::handle prefill_scale,
         py::handle temperature, py::handle assume_kv_reuse, py::handle track_prefill_tokens) {
        return score(
            policy, targets, fleet,
            {num_tokens,
             block_size,
             local_hashes,
             session_id,
             expected_output_tokens,
             now,
             {overlap_credit, prefill_scale, temperature, assume_kv_reuse, track_prefill_tokens}});
      },
      py::arg("policy"), py::arg("targets"), py::kw_only(), py::arg("num_tokens"),
      py::arg("block_size") = 16, py::arg("local_hashes") = none, py::arg("session_id") = none,
      py::arg("expected_output_tokens") = none, py::arg("now") = 0.0, py::arg("fleet") = none,
      py::arg("overlap_credit") = none, py::arg("prefill_scale") = none,
      py::arg("temperature") = none, py::arg("assume_kv_reuse") = none,
      py::arg("track_prefill_tokens") = none, "The cost of each target by stated figures.");
  module.def(
      "decide",
      [](py::handle policy, py::handle targets, py::handle num_tokens, py::handle block_size,
         py::handle local_hashes, py::handle session_id, py::handle expected_output_tokens,
         py::handle now, py::handle fleet, py::handle overlap_credit, py::handle prefill_scale,
         py::handle temperature, py::handle assume_kv_reuse, py::handle track_prefill_tokens,
         py::handle seed) {
        return decide(
            policy, targets, fleet, seed,
            {num_tokens,
             block_size,
             local_hashes,
             session_id,
             expected_output_tokens,
             now,
             {overlap_credit, prefill_scale, temperature, assume_kv_reuse, track_prefill_tokens}});
      },
      py::arg("policy"), py::arg("targets"), py::kw_only(), py::arg("num_tokens"),
      py::arg("block_size") = 16, py::arg("local_hashes") = none, py::arg("session_id") = none,
      py::arg("expected_output_tokens") = none, py::arg("now") = 0.0, py::arg("fleet") = none,
      py::arg("overlap_credit") = none, py::arg("prefill_scale") = none,
      py::arg("temperature") = none, py::arg("assume_kv_reuse") = none,
      py::arg("track_prefill_tokens") = none, py::arg("seed") = 0,
      "Which target a policy takes by stated figures.");
}

}  // namespace kvroute::python
