#include "router_face.h"

#include <limits>

#include "integer_input.h"
#include "kvroute/base/error.h"
#include "memory_size.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

std::uint32_t unsigned_32(std::int64_t value, const char* field) {
  if (value < 0 || value > std::numeric_limits<std::uint32_t>::max()) {
    throw InvalidArgument(std::string(field) + ": expected 0 <= n < 2**32, got " +
                          std::to_string(value));
  }
  return static_cast<std::uint32_t>(value);
}

std::optional<std::uint32_t> unsigned_32(std::optional<std::int64_t> value, const char* field) {
  if (!value) return std::nullopt;
  return unsigned_32(*value, field);
}

std::vector<std::string> endpoints(py::handle object, const char* field) {
  if (object.is_none()) return {};
  if (PyUnicode_Check(object.ptr())) return {object.cast<std::string>()};
  try {
    return object.cast<std::vector<std::string>>();
  } catch (const py::cast_error&) {
    throw InvalidArgument(std::string(field) +
                          ": expected None, an endpoint, or a list of endpoints, got " +
                          py::repr(object).cast<std::string>());
  }
}

/// `allowed` as a request takes it.
class Allowed {
 public:
  explicit Allowed(py::handle object) {
    if (!object.is_none()) names_ = worker_names(object, "allowed");
  }
  [[nodiscard]] const std::vector<WorkerName>* get() const noexcept {
    return names_ ? &*names_ : nullptr;
  }

 private:
  std::optional<std::vector<WorkerName>> names_;
};

Request request_of(const TokenIds& tokens, const Allowed& allowed, Namespace name) {
  return {.token_ids = tokens.values(),
          .local_hashes = {},
          .num_tokens = 0,
          .by_hashes = false,
          .name = name,
          .allowed = allowed.get()};
}

std::shared_ptr<Router> make_router(std::uint32_t block_size, std::string policy,
                                    py::handle memory_limit, std::optional<std::uint64_t> seed,
                                    std::shared_ptr<VirtualClock> clock, double predicted_ttl,
                                    double reservation_ttl) {
  return std::make_shared<Router>(
      RouterOptions{.block_size = block_size,
                    .policy = std::move(policy),
                    .memory_limit = memory_size(memory_limit, "memory_limit"),
                    .seed = seed,
                    .clock = std::move(clock),
                    .predicted_ttl_seconds = predicted_ttl,
                    .reservation_ttl_seconds = reservation_ttl});
}

}  // namespace

void ReservationFace::first_token() {
  if (released_ || !router_.is_home()) return;
  const py::gil_scoped_release released;
  router_.get().first_token(handle_.id);
}

void ReservationFace::progress(std::uint64_t output_tokens) {
  if (released_ || !router_.is_home()) return;
  const py::gil_scoped_release released;
  router_.get().progress(handle_.id, output_tokens);
}

void ReservationFace::release(py::handle output_token_ids) {
  std::optional<TokenIds> output;
  if (!output_token_ids.is_none()) output.emplace(output_token_ids, "output_token_ids");
  if (std::exchange(released_, true) || !router_.is_home()) return;
  const auto tokens = output ? output->values() : std::span<const std::uint32_t>();
  const py::gil_scoped_release released;
  router_.get().release(handle_, tokens);
}

RouterFace::RouterFace(std::uint32_t block_size, std::string policy, py::handle memory_limit,
                       std::optional<std::uint64_t> seed, std::shared_ptr<VirtualClock> clock,
                       double predicted_ttl, double reservation_ttl)
    : router_(make_router(block_size, std::move(policy), memory_limit, seed, std::move(clock),
                          predicted_ttl, reservation_ttl)) {}

Router& RouterFace::use() const {
  if (router_.is_home()) return router_.get();
  throw Error("KvRouter: it was made before a fork; make one in this process");
}

void RouterFace::add_worker(py::handle worker, std::int64_t dp_ranks,
                            std::optional<std::int64_t> block_size, py::handle kv_events,
                            py::handle kv_replay, py::handle load_events,
                            std::optional<std::int64_t> total_blocks,
                            std::optional<std::map<std::string, std::string>> labels) {
  if (total_blocks && *total_blocks < 0) {
    throw InvalidArgument("total_blocks: expected at least 1, got " +
                          std::to_string(*total_blocks));
  }
  WorkerSpec spec{.name = worker_name(worker, "worker"),
                  .dp_ranks = unsigned_32(dp_ranks, "dp_ranks"),
                  .block_size = unsigned_32(block_size, "block_size"),
                  .kv_events = endpoints(kv_events, "kv_events"),
                  .kv_replay = endpoints(kv_replay, "kv_replay"),
                  .load_events = endpoints(load_events, "load_events"),
                  .total_blocks = std::nullopt,
                  .labels = std::move(labels).value_or(std::map<std::string, std::string>())};
  if (total_blocks) spec.total_blocks = static_cast<std::uint64_t>(*total_blocks);
  Router& router = use();
  const py::gil_scoped_release released;
  router.add_worker(spec);
}

void RouterFace::remove_worker(py::handle worker) {
  const WorkerName name = worker_name(worker, "worker");
  Router& router = use();
  const py::gil_scoped_release released;
  router.remove_worker(name);
}

py::list RouterFace::workers() const {
  py::list names;
  for (const WorkerName& name : use().workers()) names.append(to_python(name));
  return names;
}

std::map<std::string, std::string> RouterFace::labels(py::handle worker) const {
  return use().labels(worker_name(worker, "worker"));
}

Selection RouterFace::select_worker(py::handle token_ids, py::handle allowed,
                                    OptionalText /*session_id*/, OptionalText lora,
                                    OptionalText salt, OptionalText name_space) {
  const TokenIds tokens(token_ids, "token_ids");
  const Allowed names(allowed);
  const Request request = request_of(tokens, names, make_namespace(lora, salt, name_space));
  Router& router = use();
  const py::gil_scoped_release released;
  return router.select(request);
}

Selection RouterFace::select_worker_by_hashes(py::handle local_hashes, std::int64_t num_tokens,
                                              py::handle allowed, OptionalText /*session_id*/) {
  const HashInput hashes(local_hashes, "local_hashes");
  const Allowed names(allowed);
  const Request request{.token_ids = {},
                        .local_hashes = hashes.values(),
                        .num_tokens = unsigned_32(num_tokens, "num_tokens"),
                        .by_hashes = true,
                        .name = {},
                        .allowed = names.get()};
  Router& router = use();
  const py::gil_scoped_release released;
  return router.select(request);
}

std::unique_ptr<ReservationFace> RouterFace::reserve(
    py::handle token_ids, std::optional<std::string> request_id,
    std::optional<std::int64_t> expected_output_tokens, py::handle allowed,
    OptionalText /*session_id*/, OptionalText lora, OptionalText salt, OptionalText name_space) {
  (void)unsigned_32(expected_output_tokens, "expected_output_tokens");
  if (request_id && request_id->empty()) {
    throw InvalidArgument("request_id: expected None or a text that is not empty, got ''");
  }
  const TokenIds tokens(token_ids, "token_ids");
  const Allowed names(allowed);
  const Request request = request_of(tokens, names, make_namespace(lora, salt, name_space));
  Router& router = use();
  ReservationHandle handle;
  {
    const py::gil_scoped_release released;
    handle = router.reserve(request, std::move(request_id).value_or(std::string()));
  }
  return std::make_unique<ReservationFace>(router_, std::move(handle));
}

Explanation RouterFace::explain(py::handle token_ids, py::handle allowed,
                                OptionalText /*session_id*/, OptionalText lora, OptionalText salt,
                                OptionalText name_space) const {
  const TokenIds tokens(token_ids, "token_ids");
  const Allowed names(allowed);
  const Request request = request_of(tokens, names, make_namespace(lora, salt, name_space));
  const Router& router = use();
  const py::gil_scoped_release released;
  return router.explain(request);
}

py::dict RouterFace::overlaps(py::handle token_ids, OptionalText lora, OptionalText salt,
                              OptionalText name_space) const {
  const TokenIds tokens(token_ids, "token_ids");
  const Allowed everyone{py::none()};
  const Request request = request_of(tokens, everyone, make_namespace(lora, salt, name_space));
  const Router& router = use();
  std::vector<std::pair<TargetId, std::uint64_t>> cached;
  {
    const py::gil_scoped_release released;
    cached = router.overlaps(request);
  }
  py::dict overlaps;
  for (const auto& [target, tokens_cached] : cached) overlaps[to_python(target)] = tokens_cached;
  return overlaps;
}

void RouterFace::update_load(py::handle worker, std::int64_t dp_rank,
                             std::optional<std::int64_t> waiting,
                             std::optional<std::int64_t> running, std::optional<double> kv_usage) {
  const WorkerName name = worker_name(worker, "worker");
  const EngineLoad load{.waiting = unsigned_32(waiting, "waiting"),
                        .running = unsigned_32(running, "running"),
                        .kv_usage = kv_usage};
  const std::uint32_t rank = unsigned_32(dp_rank, "dp_rank");
  Router& router = use();
  const py::gil_scoped_release released;
  router.update_load(name, rank, load);
}

RouterStats RouterFace::stats() const {
  const Router& router = use();
  const py::gil_scoped_release released;
  return router.stats();
}

void RouterFace::close() {
  if (!router_.is_home()) return;
  const py::gil_scoped_release released;
  router_.get().close();
}

}  // namespace kvroute::python
