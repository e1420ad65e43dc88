#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvroute/router/router.h"
#include "process_guard.h"
#include "pybind.h"
#include "python_scoring.h"
#include "request_arguments.h"
#include "reservation_face.h"

namespace kvroute::python {

/// What `KvRouter` takes.
struct RouterArguments {
  py::handle block_size;
  py::handle policy;
  py::handle memory_limit;
  py::handle seed;
  std::shared_ptr<VirtualClock> clock;
  py::handle predicted_ttl;
  py::handle reservation_ttl;
  py::handle prefill_tokens_per_second;
  py::handle attention_seconds;
  py::handle max_waiting;
  py::handle max_kv_usage;
  py::handle max_prefill_tokens;
  py::handle recent_time_constant;
  py::handle load_window;
  py::handle report_lifetime;
  py::handle decision_log;
  py::handle fallback_policy;
};

/// What `KvRouter.reserve_pair` and `explain_pair` take.
struct PairArguments {
  py::handle token_ids;
  py::handle expected_output_tokens;
  py::handle prefill_allowed;
  py::handle decode_allowed;
  py::handle lora;
  py::handle salt;
  py::handle name_space;
  py::handle labels;
  py::handle model;
};

/// What `KvRouter.set_pair_choice` takes.
struct PairOptionArguments {
  py::handle same_host;
  py::handle same_zone;
  py::handle elsewhere;
  py::handle step;
  py::handle decode_steps;
};

/// kvroute.KvRouter: conversions in and out, the GIL released in between.
class RouterFace {
 public:
  explicit RouterFace(const RouterArguments& arguments);
  ~RouterFace();
  RouterFace(const RouterFace&) = delete;
  RouterFace& operator=(const RouterFace&) = delete;

  [[nodiscard]] Router& use() const;

  void add_worker(py::handle worker, py::handle dp_ranks, py::handle block_size,
                  py::handle kv_events, py::handle kv_replay, py::handle load_events,
                  py::handle total_blocks, py::handle labels);
  void remove_worker(py::handle worker);
  [[nodiscard]] py::list workers() const;
  [[nodiscard]] py::dict labels(py::handle worker) const;

  [[nodiscard]] std::string policy() const;
  [[nodiscard]] py::dict policy_spec() const;
  void set_policy(py::handle policy, py::handle fallback_policy, py::handle phase);
  [[nodiscard]] py::dict phase_policies() const;
  void set_draining(py::handle worker, bool draining);
  void set_loras(py::handle worker, py::handle loras);
  [[nodiscard]] AllowedFace allowed_set(py::handle workers) const;

  [[nodiscard]] Selection select_worker(py::handle token_ids, py::handle allowed,
                                        py::handle expected_output_tokens,
                                        const RequestArguments& arguments);
  [[nodiscard]] Selection select_worker_by_hashes(py::handle local_hashes, py::handle num_tokens,
                                                  py::handle allowed,
                                                  py::handle expected_output_tokens,
                                                  const RequestArguments& arguments);
  [[nodiscard]] std::unique_ptr<ReservationFace> reserve(py::handle token_ids,
                                                         py::handle request_id,
                                                         py::handle expected_output_tokens,
                                                         py::handle allowed,
                                                         const RequestArguments& arguments);
  [[nodiscard]] std::unique_ptr<ReservationFace> reserve_by_hashes(
      py::handle local_hashes, py::handle num_tokens, py::handle request_id,
      py::handle expected_output_tokens, py::handle allowed, const RequestArguments& arguments);
  [[nodiscard]] py::tuple reserve_pair(py::handle request_id, const PairArguments& arguments);
  [[nodiscard]] py::tuple explain_pair(const PairArguments& arguments) const;
  void set_pair_choice(const PairOptionArguments& arguments);
  [[nodiscard]] py::dict pair_choice() const;
  [[nodiscard]] Explanation explain(py::handle token_ids, py::handle allowed,
                                    py::handle expected_output_tokens,
                                    const RequestArguments& arguments) const;
  [[nodiscard]] std::vector<DecisionRecord> recent_decisions(py::handle limit) const;
  [[nodiscard]] py::dict overlaps(py::handle token_ids, py::handle tier, py::handle lora,
                                  py::handle salt, py::handle name_space) const;

  void update_load(py::handle worker, py::handle dp_rank, py::handle waiting, py::handle running,
                   py::handle kv_usage, py::handle kv_tokens);
  [[nodiscard]] RouterStats stats() const;
  void close();

 private:
  [[nodiscard]] Selection select(PythonRequest& request);
  [[nodiscard]] std::unique_ptr<ReservationFace> book(PythonRequest& request,
                                                      std::string request_id);
  [[nodiscard]] std::shared_ptr<const PythonScoring> scoring_of(const Request& request) const;
  [[nodiscard]] py::object spec_of(Phase phase) const;

  /// What decides a phase in Python, if anything of its own does.
  struct PhaseScoring {
    bool is_own = false;                           // else the phase goes by kWhole's
    std::shared_ptr<const PythonScoring> scoring;  // null: the router's policy
  };
  PolicySpec fallback_;  // of a policy of Python, now or later; by the GIL
  ProcessGuard<Router> router_;
  std::array<PhaseScoring, kPhases> scoring_;  // by phase; under the GIL
};

}  // namespace kvroute::python
