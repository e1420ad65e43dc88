#include "request_arguments.h"

#include <cmath>
#include <optional>

#include "arguments.h"
#include "kvroute/base/error.h"
#include "phase_name.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

[[noreturn]] void refuse(const char* field, const char* expected, py::handle got) {
  throw InvalidArgument(std::string(field) + ": expected " + expected + ", got " + describe(got));
}

RankRange rank_range(py::handle object) {
  constexpr const char* kExpected = "None or a range of ranks that is not empty, by steps of 1";
  if (PyRange_Check(object.ptr()) == 0) refuse("dp_ranks", kExpected, object);
  const auto start = integer(object.attr("start"), "dp_ranks", 0, kMost32);
  const auto stop = integer(object.attr("stop"), "dp_ranks", 0, kMost32);
  if (start >= stop || integer(object.attr("step"), "dp_ranks", -kMost32, kMost32) != 1) {
    refuse("dp_ranks", kExpected, object);
  }
  return {static_cast<std::uint32_t>(start), static_cast<std::uint32_t>(stop - 1)};
}

/// Calls `take(name, value)` for each item of a mapping.
template <typename Take>
void for_each_label(py::handle mapping, const char* field, const char* expected, Take take) {
  const auto items = py::reinterpret_steal<py::object>(PyMapping_Items(mapping.ptr()));
  if (!items) {
    PyErr_Clear();
    refuse(field, expected, mapping);
  }
  for (const py::handle item : items) {
    const auto pair = py::reinterpret_borrow<py::tuple>(item);
    const auto name = text_or_none(pair[0], field);
    if (!name) refuse(field, expected, mapping);
    take(std::string(*name), pair[1]);
  }
}

}  // namespace

PythonRequest::PythonRequest(const TokenIds& tokens, py::handle allowed,
                             py::handle expected_output_tokens, const RequestArguments& arguments,
                             const char* allowed_field) {
  request_.token_ids = tokens.values();
  request_.expected_output_tokens =
      unsigned_32_or_none(expected_output_tokens, "expected_output_tokens");
  allow(allowed, allowed_field);
  take(arguments);
}

PythonRequest::PythonRequest(const HashInput& hashes, std::uint64_t num_tokens, py::handle allowed,
                             py::handle expected_output_tokens, const RequestArguments& arguments) {
  request_.local_hashes = hashes.values();
  request_.num_tokens = num_tokens;
  request_.by_hashes = true;
  request_.expected_output_tokens =
      unsigned_32_or_none(expected_output_tokens, "expected_output_tokens");
  allow(allowed);
  take(arguments);
}

void PythonRequest::take(const RequestArguments& arguments) {
  request_.session_id = text_or_none(arguments.session_id, "session_id").value_or("");
  request_.name = namespace_of(arguments.lora, arguments.salt, arguments.name_space);
  request_.overrides =
      overrides_of({arguments.overlap_credit, arguments.prefill_scale, arguments.temperature,
                    arguments.assume_kv_reuse, arguments.track_prefill_tokens});
  if (!arguments.pinned.is_none()) request_.pinned = worker_ref(arguments.pinned, "pinned");
  if (!arguments.dp_ranks.is_none()) request_.dp_ranks = rank_range(arguments.dp_ranks);
  if (!arguments.labels.is_none()) require(arguments.labels);
  if (!arguments.preferred_labels.is_none()) prefer(arguments.preferred_labels);
  request_.model = text_or_none(arguments.model, "model").value_or("");
  request_.phase = phase_of(arguments.phase);
  if (arguments.alternatives) {
    request_.alternatives = static_cast<std::uint32_t>(
        integer(arguments.alternatives, "alternatives", 0, std::int64_t{kMaxTargets}));
  }
}

void PythonRequest::allow(py::handle allowed, const char* field) {
  if (allowed.is_none()) return;
  if (py::isinstance<AllowedFace>(allowed)) {
    allowed_set_ = allowed.cast<const AllowedFace&>().allowed;
    request_.allowed_set = allowed_set_.get();
    return;
  }
  allowed_ = worker_refs(allowed, field);
  request_.allowed = &allowed_;
}

void PythonRequest::require(py::handle labels) {
  constexpr const char* kExpected = "None or a mapping from str to str";
  for_each_label(labels, "labels", kExpected, [&](std::string name, py::handle value) {
    const auto text = text_or_none(value, "labels");
    if (!text) refuse("labels", kExpected, labels);
    texts_.emplace_back(std::move(name), *text);
  });
  for (const auto& [name, value] : texts_) labels_.push_back({name, value, 1});
  request_.labels = labels_;
}

void PythonRequest::prefer(py::handle labels) {
  constexpr const char* kField = "preferred_labels";
  constexpr const char* kExpected = "None or a mapping from str to str or (str, weight)";
  std::vector<double> weights;
  for_each_label(labels, kField, kExpected, [&](std::string name, py::handle value) {
    const bool has_weight = PyTuple_Check(value.ptr()) != 0 && PyTuple_GET_SIZE(value.ptr()) == 2;
    const py::handle wanted = has_weight ? PyTuple_GET_ITEM(value.ptr(), 0) : value.ptr();
    const auto text = text_or_none(wanted, kField);
    if (!text) refuse(kField, kExpected, labels);
    const double weight = has_weight ? number(PyTuple_GET_ITEM(value.ptr(), 1), kField) : 1.0;
    if (!std::isfinite(weight)) refuse(kField, "weights that are finite", value);
    preferred_texts_.emplace_back(std::move(name), *text);
    weights.push_back(weight);
  });
  for (std::size_t i = 0; i < weights.size(); ++i) {
    preferred_.push_back({preferred_texts_[i].first, preferred_texts_[i].second, weights[i]});
  }
  request_.preferred_labels = preferred_;
}

}  // namespace kvroute::python
