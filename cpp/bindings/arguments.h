#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "kvroute/hash/block_hash.h"
#include "kvroute/policy/score_input.h"
#include "pybind.h"

namespace kvroute::python {

// Arguments of one call, checked by name: each throws InvalidArgument that says what was expected
// and what came. Types are strict: a bool is no number, a number no text.

inline constexpr std::int64_t kMost32 = std::numeric_limits<std::uint32_t>::max();

/// Empty for None. Views the str's own UTF-8, so it lives as long as the argument.
[[nodiscard]] std::optional<std::string_view> text_or_none(py::handle object, const char* field);

/// An int (or what has `__index__`) from `least` to `most`.
[[nodiscard]] std::int64_t integer(py::handle object, const char* field, std::int64_t least,
                                   std::int64_t most);
[[nodiscard]] std::optional<std::int64_t> integer_or_none(py::handle object, const char* field,
                                                          std::int64_t least, std::int64_t most);

/// An int from 0 to 2**32 - 1.
[[nodiscard]] std::uint32_t unsigned_32(py::handle object, const char* field);
[[nodiscard]] std::optional<std::uint32_t> unsigned_32_or_none(py::handle object,
                                                               const char* field);
/// An int from 0 to 2**64 - 1.
[[nodiscard]] std::optional<std::uint64_t> unsigned_64_or_none(py::handle object,
                                                               const char* field);

/// An int or a float.
[[nodiscard]] double number(py::handle object, const char* field);

/// A bool, and nothing that only counts as one.
[[nodiscard]] bool flag(py::handle object, const char* field);

/// A mapping from str to str; empty for None.
[[nodiscard]] std::map<std::string, std::string> text_map(py::handle object, const char* field);

/// The three arguments of a namespace.
[[nodiscard]] Namespace namespace_of(py::handle lora, py::handle salt, py::handle name_space);

/// What a request asks of the policy, each None where it does not: numbers, a credit from 0 to 1,
/// the others at least 0, and bools.
struct OverrideArguments {
  py::handle overlap_credit = Py_None;
  py::handle prefill_scale = Py_None;
  py::handle temperature = Py_None;
  py::handle assume_kv_reuse = Py_None;
  py::handle track_prefill_tokens = Py_None;
};
[[nodiscard]] RequestOverrides overrides_of(const OverrideArguments& arguments);

/// "the str 'abc'", "None": what came.
[[nodiscard]] std::string describe(py::handle object);

}  // namespace kvroute::python
