#pragma once

#include <string>
#include <utility>

#include "kvroute/router/router.h"
#include "process_guard.h"
#include "pybind.h"

namespace kvroute::python {

/// kvroute.Reservation: a booking that is released with its last reference.
class ReservationFace {
 public:
  ReservationFace(const ProcessGuard<Router>& router, ReservationHandle handle)
      : router_(router), handle_(std::move(handle)) {}
  ~ReservationFace();
  ReservationFace(const ReservationFace&) = delete;
  ReservationFace& operator=(const ReservationFace&) = delete;

  [[nodiscard]] const Selection& choice() const noexcept { return handle_.selection; }
  [[nodiscard]] const std::string& request_id() const noexcept { return handle_.request_id; }
  [[nodiscard]] bool released() const noexcept { return released_; }

  void first_token();
  void progress(py::handle output_tokens);
  void release(py::handle output_token_ids);

 private:
  [[nodiscard]] Router& use() const;

  ProcessGuard<Router> router_;
  ReservationHandle handle_;
  bool released_ = false;  // guarded by the GIL
};

}  // namespace kvroute::python
