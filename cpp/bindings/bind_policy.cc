#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <tuple>
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

py::list score(py::handle policy, py::handle targets, const StatedArguments& arguments) {
  const auto made = make_policy(policy_spec(policy, "policy"));
  const StatedInput stated(targets, arguments);
  const ScoreInput input = stated.input();
  const Policy& decider = made->decider(input);
  py::list costs;
  for (const double cost : costs_of(decider, input)) {
    costs.append(decider.has_cost() ? py::object(py::float_(cost)) : py::object(py::none()));
  }
  return costs;
}

py::tuple decide(py::handle policy, py::handle targets, const StatedArguments& arguments,
                 py::handle seed) {
  const auto made = make_policy(policy_spec(policy, "policy"));
  const auto given_seed = unsigned_64_or_none(seed, "seed");
  const StatedInput stated(targets, arguments);
  const ScoreInput input = stated.input();
  const Policy& decider = made->decider(input);
  PickState state(given_seed ? *given_seed : Random::entropy());
  const std::size_t chosen = decider.pick(input, costs_of(decider, input), state);
  return py::make_tuple(chosen, std::string(decider.name()));
}

/// As StatedArguments has them.
auto stated_keywords() {
  const auto none = py::none();
  return std::tuple(py::arg("num_tokens"), py::arg("block_size") = 16,
                    py::arg("local_hashes") = none, py::arg("session_id") = none,
                    py::arg("expected_output_tokens") = none, py::arg("now") = 0.0,
                    py::arg("fleet") = none, py::arg("overlap_credit") = none,
                    py::arg("prefill_scale") = none, py::arg("temperature") = none,
                    py::arg("assume_kv_reuse") = none, py::arg("track_prefill_tokens") = none);
}

StatedArguments stated_arguments(
    const std::array<py::handle, std::tuple_size_v<decltype(stated_keywords())>>& given) {
  return {.num_tokens = given[0],
          .block_size = given[1],
          .local_hashes = given[2],
          .session_id = given[3],
          .expected_output_tokens = given[4],
          .now = given[5],
          .fleet = given[6],
          .overrides = {given[7], given[8], given[9], given[10], given[11]}};
}

template <std::size_t>
using Stated = py::handle;
template <typename>
using Own = py::handle;

/// Defines a function of a policy, targets, the stated arguments, and those described by `own`.
template <typename Function, std::size_t... At, typename... Extra>
void define(py::module_& module, const char* name, const char* doc, Function function,
            std::index_sequence<At...> /*stated*/, const Extra&... own) {
  const auto keywords = stated_keywords();
  module.def(
      name,
      [function](py::handle policy, py::handle targets, Stated<At>... stated,
                 Own<Extra>... values) {
        return function(policy, targets, stated_arguments({stated...}), values...);
      },
      py::arg("policy"), py::arg("targets"), py::kw_only(), std::get<At>(keywords)..., own..., doc);
}

}  // namespace

void bind_policy(py::module_& module) {
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
  constexpr auto kStated =
      std::make_index_sequence<std::tuple_size_v<decltype(stated_keywords())>>();
  define(module, "score", "The cost of each target by stated figures.", &score, kStated);
  define(module, "decide", "Which target a policy takes by stated figures.", &decide, kStated,
         py::arg("seed") = 0);
}

}  // namespace kvroute::python
