// KvRouter's choice of a pair of targets.

#include <memory>
#include <string>
#include <utility>

#include "arguments.h"
#include "gil_release.h"
#include "integer_input.h"
#include "router_face.h"

namespace kvroute::python {
namespace {

RequestArguments shared_arguments(const PairArguments& arguments) {
  RequestArguments shared;
  shared.lora = arguments.lora;
  shared.salt = arguments.salt;
  shared.name_space = arguments.name_space;
  shared.labels = arguments.labels;
  shared.model = arguments.model;
  return shared;
}

/// Both legs of a request, as long as the call.
class PythonPair {
 public:
  explicit PythonPair(const PairArguments& arguments)
      : tokens_(arguments.token_ids, "token_ids"),
        prefill_(tokens_, arguments.prefill_allowed, arguments.expected_output_tokens,
                 shared_arguments(arguments), "prefill_allowed"),
        decode_(tokens_, arguments.decode_allowed, arguments.expected_output_tokens,
                shared_arguments(arguments), "decode_allowed") {}

  [[nodiscard]] PairRequest get() const {
    return {.prefill = prefill_.get(), .decode = decode_.get()};
  }

 private:
  TokenIds tokens_;
  PythonRequest prefill_;
  PythonRequest decode_;
};

}  // namespace

py::tuple RouterFace::reserve_pair(py::handle request_id, const PairArguments& arguments) {
  const PythonPair pair(arguments);
  std::string id(text_or_none(request_id, "request_id").value_or(""));
  Router& router = use();
  ReservedPair reserved;
  {
    const GilRelease released;
    reserved = router.reserve_pair(pair.get(), std::move(id));
  }
  return py::make_tuple(std::make_unique<ReservationFace>(router_, std::move(reserved.prefill)),
                        std::make_unique<ReservationFace>(router_, std::move(reserved.decode)));
}

py::tuple RouterFace::explain_pair(const PairArguments& arguments) const {
  const PythonPair pair(arguments);
  const Router& router = use();
  PairExplanation explanation;
  {
    const GilRelease released;
    explanation = router.explain_pair(pair.get());
  }
  return py::make_tuple(std::move(explanation.prefill), std::move(explanation.decode));
}

void RouterFace::set_pair_choice(const PairOptionArguments& arguments) {
  const PairOptions options{.same_host = number(arguments.same_host, "same_host"),
                            .same_zone = number(arguments.same_zone, "same_zone"),
                            .elsewhere = number(arguments.elsewhere, "elsewhere"),
                            .step = number(arguments.step, "step"),
                            .decode_steps = number(arguments.decode_steps, "decode_steps")};
  Router& router = use();
  const GilRelease released;
  router.set_pair_options(options);
}

py::dict RouterFace::pair_choice() const {
  const PairOptions options = use().pair_options();
  py::dict choice;
  choice["same_host"] = options.same_host;
  choice["same_zone"] = options.same_zone;
  choice["elsewhere"] = options.elsewhere;
  choice["step"] = options.step;
  choice["decode_steps"] = options.decode_steps;
  return choice;
}

}  // namespace kvroute::python
