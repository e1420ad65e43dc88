#include "router_face.h"

#include <limits>
#include <map>
#include <new>
#include <optional>
#include <vector>

#include "arguments.h"
#include "gil_release.h"
#include "integer_input.h"
#include "kvroute/base/error.h"
#include "memory_size.h"
#include "policy_spec_input.h"
#include "tier_name.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

constexpr std::int64_t kMost64 = std::numeric_limits<std::int64_t>::max();

std::vector<std::string> endpoints(py::handle object, const char* field) {
  if (object.is_none()) return {};
  if (PyUnicode_Check(object.ptr())) return {std::string(*text_or_none(object, field))};
  std::vector<std::string> texts;
  if (PyList_Check(object.ptr()) || PyTuple_Check(object.ptr())) {
    for (const py::handle item : object) {
      const auto text = text_or_none(item, field);
      if (!text) break;
      texts.emplace_back(*text);
    }
    if (texts.size() == py::len(object)) return texts;
  }
  throw InvalidArgument(std::string(field) +
                        ": expected None, an endpoint, or a list of endpoints, got " +
                        describe(object));
}

/// A request from Python's arguments; views these, so it lives as long as the call.
class PythonRequest {
 public:
  PythonRequest(const TokenIds& tokens, const RequestArguments& arguments) {
    request_.session_id = text_or_none(arguments.session_id, "session_id").value_or("");
    request_.token_ids = tokens.values();
    request_.name = namespace_of(arguments.lora, arguments.salt, arguments.name_space);
    allow(arguments.allowed);
  }
  PythonRequest(const HashInput& hashes, std::uint64_t num_tokens, py::handle allowed) {
    request_.local_hashes = hashes.values();
    request_.num_tokens = num_tokens;
    request_.by_hashes = true;
    allow(allowed);
  }
  PythonRequest(const PythonRequest&) = delete;
  PythonRequest& operator=(const PythonRequest&) = delete;

  [[nodiscard]] const Request& get() const noexcept { return request_; }

 private:
  void allow(py::handle allowed) {
    if (allowed.is_none()) return;
    allowed_ = worker_refs(allowed, "allowed");
    request_.allowed = &allowed_;
  }

  Request request_;
  std::vector<WorkerRef> allowed_;
};

std::shared_ptr<Router> make_router(py::handle block_size, py::handle policy,
                                    py::handle memory_limit, py::handle seed,
                                    std::shared_ptr<VirtualClock> clock, py::handle predicted_ttl,
                                    py::handle reservation_ttl) {
  return std::make_shared<Router>(
      RouterOptions{.block_size = unsigned_32(block_size, "block_size"),
                    .policy = policy_spec(policy, "policy"),
                    .memory_limit = memory_size(memory_limit, "memory_limit"),
                    .seed = unsigned_64_or_none(seed, "seed"),
                    .clock = std::move(clock),
                    .predicted_ttl_seconds = number(predicted_ttl, "predicted_ttl"),
                    .reservation_ttl_seconds = number(reservation_ttl, "reservation_ttl")});
}

}  // namespace

ReservationFace::~ReservationFace() {
  if (!router_.is_home()) return;
  const GilRelease released;
  try {
    if (!released_) router_.get().release(handle_);
  } catch (const std::bad_alloc&) {
    released_ = true;  // as far as this object goes: the booking ends with its time
  }
  router_.reset();
}

Router& ReservationFace::use() const {
  if (router_.is_home()) return router_.get();
  throw Error("Reservation: it was made before a fork, and belongs to the parent process");
}

void ReservationFace::first_token() {
  Router& router = use();
  if (released_) return;
  const GilRelease released;
  router.first_token(handle_.id);
}

void ReservationFace::progress(py::handle output_tokens) {
  const std::int64_t tokens = integer(output_tokens, "output_tokens", 0, kMost64);
  Router& router = use();
  if (released_) return;
  const GilRelease released;
  router.progress(handle_.id, static_cast<std::uint64_t>(tokens));
}

void ReservationFace::release(py::handle output_token_ids) {
  std::optional<TokenIds> output;
  if (!output_token_ids.is_none()) output.emplace(output_token_ids, "output_token_ids");
  Router& router = use();
  if (std::exchange(released_, true)) return;
  const auto tokens = output ? output->values() : std::span<const std::uint32_t>();
  const GilRelease released;
  router.release(handle_, tokens);
}

RouterFace::RouterFace(py::handle block_size, py::handle policy, py::handle memory_limit,
                       py::handle seed, std::shared_ptr<VirtualClock> clock,
                       py::handle predicted_ttl, py::handle reservation_ttl)
    : router_(make_router(block_size, policy, memory_limit, seed, std::move(clock), predicted_ttl,
                          reservation_ttl)) {}

// Closing joins a thread and sweeps what the router held: not with the GIL.
RouterFace::~RouterFace() {
  if (!router_.is_home()) return;
  const GilRelease released;
  router_.reset();
}

Router& RouterFace::use() const {
  if (router_.is_home()) return router_.get();
  throw Error("KvRouter: it was made before a fork; make one in this process");
}

void RouterFace::add_worker(py::handle worker, py::handle dp_ranks, py::handle block_size,
                            py::handle kv_events, py::handle kv_replay, py::handle load_events,
                            py::handle total_blocks, py::handle labels) {
  WorkerSpec spec{.name = worker_name(worker, "worker"),
                  .dp_ranks = unsigned_32(dp_ranks, "dp_ranks"),
                  .block_size = unsigned_32_or_none(block_size, "block_size"),
                  .kv_events = endpoints(kv_events, "kv_events"),
                  .kv_replay = endpoints(kv_replay, "kv_replay"),
                  .load_events = endpoints(load_events, "load_events"),
                  .total_blocks = std::nullopt,
                  .labels = text_map(labels, "labels")};
  if (const auto blocks = integer_or_none(total_blocks, "total_blocks", 1, kMost64)) {
    spec.total_blocks = static_cast<std::uint64_t>(*blocks);
  }
  Router& router = use();
  const GilRelease released;
  router.add_worker(spec);
}

void RouterFace::remove_worker(py::handle worker) {
  const WorkerName name = worker_name(worker, "worker");
  Router& router = use();
  const GilRelease released;
  router.remove_worker(name);
}

py::list RouterFace::workers() const {
  const Router& router = use();
  std::vector<WorkerName> workers;
  {
    const GilRelease released;
    workers = router.workers();
  }
  py::list names;
  for (const WorkerName& name : workers) names.append(to_python(name));
  return names;
}

py::dict RouterFace::labels(py::handle worker) const {
  const WorkerName name = worker_name(worker, "worker");
  const Router& router = use();
  std::map<std::string, std::string> labels;
  {
    const GilRelease released;
    labels = router.labels(name);
  }
  return py::cast(labels);
}

Selection RouterFace::select_worker(py::handle token_ids, const RequestArguments& arguments) {
  const TokenIds tokens(token_ids, "token_ids");
  const PythonRequest request(tokens, arguments);
  Router& router = use();
  const GilRelease released;
  return router.select(request.get());
}

Selection RouterFace::select_worker_by_hashes(py::handle local_hashes, py::handle num_tokens,
                                              py::handle allowed, py::handle session_id) {
  (void)text_or_none(session_id, "session_id");
  const HashInput hashes(local_hashes, "local_hashes");
  const PythonRequest request(hashes, unsigned_32(num_tokens, "num_tokens"), allowed);
  Router& router = use();
  const GilRelease released;
  return router.select(request.get());
}

std::unique_ptr<ReservationFace> RouterFace::reserve(py::handle token_ids, py::handle request_id,
                                                     py::handle expected_output_tokens,
                                                     const RequestArguments& arguments) {
  (void)unsigned_32_or_none(expected_output_tokens, "expected_output_tokens");
  const auto wanted_id = text_or_none(request_id, "request_id");
  if (wanted_id && wanted_id->empty()) {
    throw InvalidArgument("request_id: expected None or a text that is not empty, got ''");
  }
  const TokenIds tokens(token_ids, "token_ids");
  const PythonRequest request(tokens, arguments);
  std::string id(wanted_id.value_or(std::string_view()));
  Router& router = use();
  ReservationHandle handle;
  {
    const GilRelease released;
    handle = router.reserve(request.get(), std::move(id));
  }
  return std::make_unique<ReservationFace>(router_, std::move(handle));
}

Explanation RouterFace::explain(py::handle token_ids, const RequestArguments& arguments) const {
  const TokenIds tokens(token_ids, "token_ids");
  const PythonRequest request(tokens, arguments);
  const Router& router = use();
  const GilRelease released;
  return router.explain(request.get());
}

py::dict RouterFace::overlaps(py::handle token_ids, py::handle tier, py::handle lora,
                              py::handle salt, py::handle name_space) const {
  const Tier deepest = tier_of(tier, "tier");
  const TokenIds tokens(token_ids, "token_ids");
  const py::none none;
  const PythonRequest request(
      tokens,
      {.allowed = none, .session_id = none, .lora = lora, .salt = salt, .name_space = name_space});
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

void RouterFace::update_load(py::handle worker, py::handle dp_rank, py::handle waiting,
                             py::handle running, py::handle kv_usage) {
  const WorkerName name = worker_name(worker, "worker");
  EngineLoad load{.waiting = unsigned_32_or_none(waiting, "waiting"),
                  .running = unsigned_32_or_none(running, "running"),
                  .kv_usage = std::nullopt};
  if (!kv_usage.is_none()) load.kv_usage = number(kv_usage, "kv_usage");
  const std::uint32_t rank = unsigned_32(dp_rank, "dp_rank");
  Router& router = use();
  const GilRelease released;
  router.update_load(name, rank, load);
}

RouterStats RouterFace::stats() const {
  const Router& router = use();
  const GilRelease released;
  return router.stats();
}

void RouterFace::close() {
  if (!router_.is_home()) return;
  const GilRelease released;
  router_.get().close();
}

}  // namespace kvroute::python
