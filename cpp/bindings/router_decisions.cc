// kvroute.KvRouter's decisions: from Python's arguments to a choice or a booking.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "gil_release.h"
#include "integer_input.h"
#include "kvroute/base/error.h"
#include "router_face.h"
#include "tier_name.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

/// Empty for None: the router makes one up.
std::string id_of(py::handle request_id) {
  const auto wanted = text_or_none(request_id, "request_id");
  if (wanted && wanted->empty()) {
    throw InvalidArgument("request_id: expected None or a text that is not empty, got ''");
  }
  return std::string(wanted.value_or(std::string_view()));
}

}  // namespace

std::shared_ptr<const PythonScoring> RouterFace::scoring_of(const Request& request) const {
  const PhaseScoring& own = scoring_[static_cast<std::size_t>(request.phase)];
  return own.is_own ? own.scoring : scoring_.front().scoring;
}

Selection RouterFace::select(PythonRequest& request) {
  Router& router = use();
  const auto scoring = scoring_of(request.get());
  const PythonCosts costs(scoring.get(), router, request);
  const GilRelease released;
  return router.select(request.get());
}

std::unique_ptr<ReservationFace> RouterFace::book(PythonRequest& request, std::string request_id) {
  Router& router = use();
  const auto scoring = scoring_of(request.get());
  const PythonCosts costs(scoring.get(), router, request);
  ReservationHandle handle;
  {
    const GilRelease released;
    handle = router.reserve(request.get(), std::move(request_id));
  }
  return std::make_unique<ReservationFace>(router_, std::move(handle));
}

Selection RouterFace::select_worker(py::handle token_ids, py::handle allowed,
                                    py::handle expected_output_tokens,
                                    const RequestArguments& arguments) {
  const TokenIds tokens(token_ids, "token_ids");
  PythonRequest request(tokens, allowed, expected_output_tokens, arguments);
  return select(request);
}

Selection RouterFace::select_worker_by_hashes(py::handle local_hashes, py::handle num_tokens,
                                              py::handle allowed, py::handle expected_output_tokens,
                                              const RequestArguments& arguments) {
  const HashInput hashes(local_hashes, "local_hashes");
  PythonRequest request(hashes, unsigned_32(num_tokens, "num_tokens"), allowed,
                        expected_output_tokens, arguments);
  return select(request);
}

std::unique_ptr<ReservationFace> RouterFace::reserve(py::handle token_ids, py::handle request_id,
                                                     py::handle expected_output_tokens,
                                                     py::handle allowed,
                                                     const RequestArguments& arguments) {
  std::string id = id_of(request_id);
  const TokenIds tokens(token_ids, "token_ids");
  PythonRequest request(tokens, allowed, expected_output_tokens, arguments);
  return book(request, std::move(id));
}

std::unique_ptr<ReservationFace> RouterFace::reserve_by_hashes(
    py::handle local_hashes, py::handle num_tokens, py::handle request_id,
    py::handle expected_output_tokens, py::handle allowed, const RequestArguments& arguments) {
  std::string id = id_of(request_id);
  const HashInput hashes(local_hashes, "local_hashes");
  PythonRequest request(hashes, unsigned_32(num_tokens, "num_tokens"), allowed,
                        expected_output_tokens, arguments);
  return book(request, std::move(id));
}

Explanation RouterFace::explain(py::handle token_ids, py::handle allowed,
                                py::handle expected_output_tokens,
                                const RequestArguments& arguments) const {
  const TokenIds tokens(token_ids, "token_ids");
  PythonRequest request(tokens, allowed, expected_output_tokens, arguments);
  const Router& router = use();
  const auto scoring = scoring_of(request.get());
  std::optional<PythonCosts> costs;
  try {
    costs.emplace(scoring.get(), router, request);
  } catch (const NoEligibleWorker&) {  // nobody to score: the explanation says why
    request.fail_scoring();
  }
  const GilRelease released;
  return router.explain(request.get());
}

py::dict RouterFace::overlaps(py::handle token_ids, py::handle tier, py::handle lora,
                              py::handle salt, py::handle name_space) const {
  const Tier deepest = tier_of(tier, "tier");
  const TokenIds tokens(token_ids, "token_ids");
  RequestArguments arguments;
  arguments.lora = lora;
  arguments.salt = salt;
  arguments.name_space = name_space;
  const PythonRequest request(tokens, py::none(), py::none(), arguments);
  const Router& router = use();
  std::vector<std::pair<TargetId, std::uint64_t>> cached;
  {
    const GilRelease released;
    cached = router.overlaps(request.get(), deepest);
  }
  py::dict overlaps;
  for (const auto& [target, tokens_cached] : cached) overlaps[to_python(target)] = tokens_cached;
  return overlaps;
}

}  // namespace kvroute::python
