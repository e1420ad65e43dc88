#include "arguments.h"

#include "kvroute/base/error.h"

namespace kvroute::python {
namespace {

constexpr std::size_t kLongestDescription = 120;

[[noreturn]] void refuse(const char* field, const std::string& expected, py::handle got) {
  throw InvalidArgument(std::string(field) + ": expected " + expected + ", got " + describe(got));
}

/// The object as an exact int, by `__index__`; null for what is no integer (a bool is none).
py::object as_int(py::handle object) {
  if (PyBool_Check(object.ptr()) || PyIndex_Check(object.ptr()) == 0) return {};
  auto number = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  if (!number) throw py::error_already_set();
  return number;
}

}  // namespace

std::string describe(py::handle object) {
  if (object.is_none()) return "None";
  std::string text;
  try {
    text = py::repr(object).cast<std::string>();
  } catch (const py::error_already_set&) {  // a repr that fails, or no text of UTF-8
    text.clear();
  }
  if (text.empty() || text.size() > kLongestDescription) {
    return "a " + std::string(Py_TYPE(object.ptr())->tp_name);
  }
  return "the " + std::string(Py_TYPE(object.ptr())->tp_name) + " " + text;
}

std::optional<std::string_view> text_or_none(py::handle object, const char* field) {
  if (object.is_none()) return std::nullopt;
  if (!PyUnicode_Check(object.ptr())) refuse(field, "None or a str", object);
  Py_ssize_t size = 0;
  const char* const text = PyUnicode_AsUTF8AndSize(object.ptr(), &size);
  if (text == nullptr) {
    PyErr_Clear();
    refuse(field, "a str that UTF-8 can write", object);
  }
  return std::string_view(text, static_cast<std::size_t>(size));
}

std::int64_t integer(py::handle object, const char* field, std::int64_t least, std::int64_t most) {
  const auto expected = [&] {
    return "an integer from " + std::to_string(least) + " to " + std::to_string(most);
  };
  const py::object exact = as_int(object);
  if (!exact) refuse(field, expected(), object);
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(exact.ptr(), &overflow);
  if (overflow != 0 || value < least || value > most) {
    throw InvalidArgument(std::string(field) + ": expected " + expected() + ", got " +
                          py::str(exact).cast<std::string>());
  }
  return value;
}

std::optional<std::int64_t> integer_or_none(py::handle object, const char* field,
                                            std::int64_t least, std::int64_t most) {
  if (object.is_none()) return std::nullopt;
  return integer(object, field, least, most);
}

std::uint32_t unsigned_32(py::handle object, const char* field) {
  return static_cast<std::uint32_t>(integer(object, field, 0, kMost32));
}

std::optional<std::uint32_t> unsigned_32_or_none(py::handle object, const char* field) {
  if (object.is_none()) return std::nullopt;
  return unsigned_32(object, field);
}

std::optional<std::uint64_t> unsigned_64_or_none(py::handle object, const char* field) {
  if (object.is_none()) return std::nullopt;
  const py::object exact = as_int(object);
  if (!exact) refuse(field, "None or an integer, 0 <= n < 2**64", object);
  const unsigned long long value = PyLong_AsUnsignedLongLong(exact.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    refuse(field, "None or an integer, 0 <= n < 2**64", exact);
  }
  return value;
}

double number(py::handle object, const char* field) {
  const bool is_number = !PyBool_Check(object.ptr()) &&
                         (PyFloat_Check(object.ptr()) || PyIndex_Check(object.ptr()) != 0);
  if (!is_number) refuse(field, "a number", object);
  const double value = PyFloat_AsDouble(object.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    refuse(field, "a number that a float can hold", object);
  }
  return value;
}

bool flag(py::handle object, const char* field) {
  if (!PyBool_Check(object.ptr())) refuse(field, "a bool", object);
  return object.is(py::handle(Py_True));
}

std::map<std::string, std::string> text_map(py::handle object, const char* field) {
  std::map<std::string, std::string> texts;
  if (object.is_none()) return texts;
  const auto items = py::reinterpret_steal<py::object>(PyMapping_Items(object.ptr()));
  if (!items) {
    PyErr_Clear();
    refuse(field, "None or a mapping from str to str", object);
  }
  for (const py::handle item : items) {
    const auto pair = py::reinterpret_borrow<py::tuple>(item);
    const auto key = text_or_none(pair[0], field);
    const auto value = text_or_none(pair[1], field);
    if (!key || !value) refuse(field, "a mapping from str to str", object);
    texts.emplace(*key, *value);
  }
  return texts;
}

Namespace namespace_of(py::handle lora, py::handle salt, py::handle name_space) {
  const auto part = [](py::handle object, const char* field) {
    return text_or_none(object, field).value_or(std::string_view());
  };
  return {.lora = part(lora, "lora"),
          .salt = part(salt, "salt"),
          .tenant = part(name_space, "namespace")};
}

RequestOverrides overrides_of(const OverrideArguments& arguments) {
  const auto bounded = [](py::handle object, const char* field, double most,
                          const char* expected) -> std::optional<double> {
    if (object.is_none()) return std::nullopt;
    const double value = number(object, field);
    const bool within = value >= 0 && value <= most;  // not so: NaN
    if (!within) refuse(field, expected, object);
    return value;
  };
  const auto said = [](py::handle object, const char* field) -> std::optional<bool> {
    if (object.is_none()) return std::nullopt;
    return flag(object, field);
  };
  return {.overlap_credit = bounded(arguments.overlap_credit, "overlap_credit", 1,
                                    "None or a number from 0 to 1"),
          .prefill_scale = bounded(arguments.prefill_scale, "prefill_scale", 1e6,
                                   "None or a number from 0 to 1e6"),
          .temperature =
              bounded(arguments.temperature, "temperature", 100, "None or a number from 0 to 100"),
          .assume_kv_reuse = said(arguments.assume_kv_reuse, "assume_kv_reuse"),
          .track_prefill_tokens = said(arguments.track_prefill_tokens, "track_prefill_tokens")};
}

}  // namespace kvroute::python
