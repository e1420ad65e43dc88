#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvroute/base/clock.h"
#include "kvroute/router/router.h"
#include "namespace_arguments.h"
#include "process_guard.h"
#include "pybind.h"

namespace kvroute::python {

/// kvroute.Reservation: a booking that is released with its last reference.
class ReservationFace {
 public:
  ReservationFace(ProcessGuard<Router> router, ReservationHandle handle)
      : router_(std::move(router)), handle_(std::move(handle)) {}
  ~ReservationFace() {
    if (!released_ && router_.is_home()) router_.get().release(handle_);
  }
  ReservationFace(const ReservationFace&) = delete;
  ReservationFace& operator=(const ReservationFace&) = delete;

  [[nodiscard]] const Selection& choice() const noexcept { return handle_.selection; }
  [[nodiscard]] const std::string& request_id() const noexcept { return handle_.request_id; }
  [[nodiscard]] bool released() const noexcept { return released_; }

  void first_token();
  void progress(std::uint64_t output_tokens);
  void release(py::handle output_token_ids);

 private:
  ProcessGuard<Router> router_;
  ReservationHandle handle_;
  bool released_ = false;  // guarded by the GIL
};

/// kvroute.KvRouter: conversions in and out, the GIL released in between.
class RouterFace {
 public:
  RouterFace(std::uint32_t block_size, std::string policy, py::handle memory_limit,
             std::optional<std::uint64_t> seed, std::shared_ptr<VirtualClock> clock,
             double predicted_ttl, double reservation_ttl);

  [[nodiscard]] Router& use() const;

  void add_worker(py::handle worker, std::int64_t dp_ranks, std::optional<std::int64_t> block_size,
                  py::handle kv_events, py::handle kv_replay, py::handle load_events,
                  std::optional<std::int64_t> total_blocks,
                  std::optional<std::map<std::string, std::string>> labels);
  void remove_worker(py::handle worker);
  [[nodiscard]] py::list workers() const;
  [[nodiscard]] std::map<std::string, std::string> labels(py::handle worker) const;

  [[nodiscard]] Selection select_worker(py::handle token_ids, py::handle allowed,
                                        OptionalText session_id, OptionalText lora,
                                        OptionalText salt, OptionalText name_space);
  [[nodiscard]] Selection select_worker_by_hashes(py::handle local_hashes, std::int64_t num_tokens,
                                                  py::handle allowed, OptionalText session_id);
  [[nodiscard]] std::unique_ptr<ReservationFace> reserve(
      py::handle token_ids, std::optional<std::string> request_id,
      std::optional<std::int64_t> expected_output_tokens, py::handle allowed,
      OptionalText session_id, OptionalText lora, OptionalText salt, OptionalText name_space);
  [[nodiscard]] Explanation explain(py::handle token_ids, py::handle allowed,
                                    OptionalText session_id, OptionalText lora, OptionalText salt,
                                    OptionalText name_space) const;
  [[nodiscard]] py::dict overlaps(py::handle token_ids, OptionalText lora, OptionalText salt,
                                  OptionalText name_space) const;

  void update_load(py::handle worker, std::int64_t dp_rank, std::optional<std::int64_t> waiting,
                   std::optional<std::int64_t> running, std::optional<double> kv_usage);
  [[nodiscard]] RouterStats stats() const;
  void close();

 private:
  ProcessGuard<Router> router_;
};

}  // namespace kvroute::python
