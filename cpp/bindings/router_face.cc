#include "router_face.h"

#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "arguments.h"
#include "for_each_item.h"
#include "gil_release.h"
#include "integer_input.h"
#include "kvroute/base/error.h"
#include "memory_size.h"
#include "phase_name.h"
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

std::vector<std::string> texts(py::handle object, const char* field) {
  constexpr const char* kExpected = "a sequence of strs";
  if (PyUnicode_Check(object.ptr())) {  // a frequent slip: loras="a"
    throw InvalidArgument(std::string(field) + ": expected " + kExpected + ", got " +
                          describe(object));
  }
  std::vector<std::string> texts;
  for_each_item(object, field, kExpected, [&](py::handle item) {
    const auto text = text_or_none(item, "");
    if (!text) throw InvalidArgument(": expected a str, got None");
    texts.emplace_back(*text);
  });
  return texts;
}

OverloadLimits limits_of(const RouterArguments& arguments) {
  OverloadLimits limits;
  limits.waiting = unsigned_32_or_none(arguments.max_waiting, "max_waiting");
  limits.prefill_tokens = unsigned_64_or_none(arguments.max_prefill_tokens, "max_prefill_tokens");
  if (!arguments.max_kv_usage.is_none()) {
    limits.kv_usage = number(arguments.max_kv_usage, "max_kv_usage");
  }
  return limits;
}

/// The core's policy: the fallback where Python's decides.
PolicySpec own_policy(py::handle policy, const PolicySpec& fallback) {
  return PythonScoring::is_policy(policy) ? fallback : policy_spec(policy, "policy");
}

/// Checked, since it may be needed only later.
PolicySpec fallback_of(py::handle given) {
  PolicySpec fallback = policy_spec(given, "fallback_policy");
  (void)make_policy(fallback);
  return fallback;
}

std::shared_ptr<const PythonScoring> python_policy(py::handle policy) {
  return PythonScoring::is_policy(policy) ? std::make_shared<const PythonScoring>(policy) : nullptr;
}

std::shared_ptr<Router> make_router(const RouterArguments& arguments, const PolicySpec& fallback) {
  return std::make_shared<Router>(RouterOptions{
      .block_size = unsigned_32(arguments.block_size, "block_size"),
      .policy = own_policy(arguments.policy, fallback),
      .memory_limit = memory_size(arguments.memory_limit, "memory_limit"),
      .seed = unsigned_64_or_none(arguments.seed, "seed"),
      .clock = arguments.clock,
      .predicted_ttl_seconds = number(arguments.predicted_ttl, "predicted_ttl"),
      .reservation_ttl_seconds = number(arguments.reservation_ttl, "reservation_ttl"),
      .prefill = {.tokens_per_second =
                      number(arguments.prefill_tokens_per_second, "prefill_tokens_per_second"),
                  .attention_seconds = number(arguments.attention_seconds, "attention_seconds")},
      .recent_time_constant = number(arguments.recent_time_constant, "recent_time_constant"),
      .load_window_seconds = number(arguments.load_window, "load_window"),
      .report_lifetime_seconds = number(arguments.report_lifetime, "report_lifetime"),
      .decision_log =
          static_cast<std::size_t>(integer(arguments.decision_log, "decision_log", 0, kMost64)),
      .overload = limits_of(arguments)});
}

}  // namespace

RouterFace::RouterFace(const RouterArguments& arguments)
    : fallback_(fallback_of(arguments.fallback_policy)),
      router_(make_router(arguments, fallback_)),
      scoring_{PhaseScoring{true, python_policy(arguments.policy)}} {}

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

std::string RouterFace::policy() const {
  return scoring_.front().scoring ? "python" : use().policy();
}

py::dict RouterFace::policy_spec() const { return spec_of(Phase::kWhole); }

py::object RouterFace::spec_of(Phase phase) const {
  const auto own = use().policy_spec(phase);
  if (!own) return py::none();
  py::dict spec = to_python(*own);
  if (!scoring_[static_cast<std::size_t>(phase)].scoring) return spec;
  py::dict with_fallback;
  with_fallback["name"] = "python";
  with_fallback["fallback"] = spec;
  return with_fallback;
}

py::dict RouterFace::phase_policies() const {
  py::dict policies;
  policies["prefill"] = spec_of(Phase::kPrefill);
  policies["decode"] = spec_of(Phase::kDecode);
  return policies;
}

void RouterFace::set_policy(py::handle policy, py::handle fallback_policy, py::handle phase_name) {
  const Phase phase = phase_of(phase_name);
  PhaseScoring scoring;
  std::optional<PolicySpec> spec;
  if (phase == Phase::kWhole || !policy.is_none()) scoring = {true, python_policy(policy)};
  // Making the policy runs Python, in which the fallback may be changed: read it afterwards.
  const PolicySpec fallback = fallback_policy.is_none() ? fallback_ : fallback_of(fallback_policy);
  if (scoring.is_own) spec = own_policy(policy, fallback);
  // With the GIL: another change, or a look at the policy, would come between the two. Nobody who
  // holds the router's locks waits for the GIL.
  use().set_policy(spec, phase);
  std::swap(scoring_[static_cast<std::size_t>(phase)], scoring);
  if (!fallback_policy.is_none()) fallback_ = fallback;
}

void RouterFace::set_draining(py::handle worker, bool draining) {
  const WorkerName name = worker_name(worker, "worker");
  Router& router = use();
  const GilRelease released;
  router.set_draining(name, draining);
}

void RouterFace::set_loras(py::handle worker, py::handle loras) {
  const WorkerName name = worker_name(worker, "worker");
  std::vector<std::string> resident = texts(loras, "loras");
  Router& router = use();
  const GilRelease released;
  router.set_loras(name, std::move(resident));
}

AllowedFace RouterFace::allowed_set(py::handle workers) const {
  std::vector<WorkerRef> refs = worker_refs(workers, "workers");
  const Router& router = use();
  const GilRelease released;
  return {router.allowed_set(std::move(refs))};
}

std::vector<DecisionRecord> RouterFace::recent_decisions(py::handle limit) const {
  const auto most = static_cast<std::size_t>(integer(limit, "limit", 0, kMost64));
  const Router& router = use();
  const GilRelease released;
  return router.recent_decisions(most);
}

void RouterFace::update_load(py::handle worker, py::handle dp_rank, py::handle waiting,
                             py::handle running, py::handle kv_usage, py::handle kv_tokens) {
  const WorkerName name = worker_name(worker, "worker");
  EngineLoad load{.waiting = unsigned_32_or_none(waiting, "waiting"),
                  .running = unsigned_32_or_none(running, "running"),
                  .kv_usage = std::nullopt};
  if (!kv_usage.is_none()) load.kv_usage = number(kv_usage, "kv_usage");
  const std::uint32_t rank = unsigned_32(dp_rank, "dp_rank");
  const auto tokens = unsigned_64_or_none(kv_tokens, "kv_tokens");
  Router& router = use();
  const GilRelease released;
  router.update_load(name, rank, load, tokens);
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
