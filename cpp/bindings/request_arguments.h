#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "integer_input.h"
#include "kvroute/router/request.h"
#include "pybind.h"

namespace kvroute::python {

/// What decisions take by keyword; None where it is not given.
struct RequestArguments {
  py::handle session_id = Py_None;
  py::handle lora = Py_None;
  py::handle salt = Py_None;
  py::handle name_space = Py_None;
  py::handle overlap_credit = Py_None;
  py::handle prefill_scale = Py_None;
  py::handle temperature = Py_None;
  py::handle assume_kv_reuse = Py_None;
  py::handle track_prefill_tokens = Py_None;
  py::handle pinned = Py_None;
  py::handle dp_ranks = Py_None;
  py::handle labels = Py_None;
  py::handle preferred_labels = Py_None;
  py::handle model = Py_None;
  py::handle phase = Py_None;
  py::handle alternatives;  ///< null where the call takes none
};

/// kvroute.AllowedSet
struct AllowedFace {
  std::shared_ptr<const AllowedSet> allowed;
};

/// A request from Python's arguments; views the texts among them, so it lives as long as the call.
class PythonRequest {
 public:
  /// \throws InvalidArgument
  PythonRequest(const TokenIds& tokens, py::handle allowed, py::handle expected_output_tokens,
                const RequestArguments& arguments, const char* allowed_field = "allowed");
  PythonRequest(const HashInput& hashes, std::uint64_t num_tokens, py::handle allowed,
                py::handle expected_output_tokens, const RequestArguments& arguments);
  PythonRequest(const PythonRequest&) = delete;
  PythonRequest& operator=(const PythonRequest&) = delete;

  /// Costs in place of the policy's; viewed.
  void give(const GivenCosts& given) noexcept { request_.given = &given; }
  void fail_scoring() noexcept { request_.scoring_failed = true; }

  [[nodiscard]] const Request& get() const noexcept { return request_; }

 private:
  void take(const RequestArguments& arguments);
  void allow(py::handle allowed, const char* field = "allowed");
  void require(py::handle labels);
  void prefer(py::handle labels);

  Request request_;
  std::vector<WorkerRef> allowed_;
  std::shared_ptr<const AllowedSet> allowed_set_;
  // Copies: the caller's mappings may change while the GIL is released.
  std::vector<std::pair<std::string, std::string>> texts_;
  std::vector<std::pair<std::string, std::string>> preferred_texts_;
  std::vector<LabelRef> labels_;
  std::vector<LabelRef> preferred_;
};

}  // namespace kvroute::python
