#pragma once

#include <memory>
#include <optional>

#include "kvroute/router/router.h"
#include "pybind.h"
#include "request_arguments.h"

namespace kvroute::python {

/// kvroute._core._Features
struct FeaturesFace {
  std::shared_ptr<const Features> features;
};

/// A policy written in Python. Used and destroyed with the GIL held.
class PythonScoring {
 public:
  /// Whether an object is such a policy, rather than a policy's name or mapping.
  [[nodiscard]] static bool is_policy(py::handle object);

  /// \throws InvalidArgument for a temperature or sample that is none; ImportError without NumPy
  explicit PythonScoring(py::handle policy);

 private:
  friend class PythonCosts;

  py::object scorer_;
  PickRule rule_;
};

/// The costs that a policy of Python gives one request; they are the request's as long as this
/// lives. Made and destroyed with the GIL held; gives it up while it takes the figures.
class PythonCosts {
 public:
  /// Does nothing where there is no such policy. \throws what Router::features throws
  PythonCosts(const PythonScoring* scoring, const Router& router, PythonRequest& request);
  PythonCosts(const PythonCosts&) = delete;
  PythonCosts& operator=(const PythonCosts&) = delete;

 private:
  std::shared_ptr<const Features> features_;
  std::optional<py::buffer_info> costs_;
  GivenCosts given_;
};

}  // namespace kvroute::python
