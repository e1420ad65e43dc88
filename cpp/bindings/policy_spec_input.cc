#include "policy_spec_input.h"

#include <string>
#include <utility>

#include "arguments.h"
#include "kvroute/base/error.h"

namespace kvroute::python {
namespace {

using Value = PolicySpec::Value;

constexpr std::size_t kDeepest = 32;  // values inside values: a list may contain itself

[[noreturn]] void refuse(const std::string& place, const char* expected, py::handle got) {
  throw InvalidArgument(place + ": expected " + expected + ", got " + describe(got));
}

Value value_of(py::handle object, const std::string& place, std::size_t depth);

PolicySpec::Parameters parameters_of(py::handle mapping, const std::string& place,
                                     std::size_t depth) {
  const auto items = py::reinterpret_steal<py::object>(PyMapping_Items(mapping.ptr()));
  if (!items) throw py::error_already_set();
  PolicySpec::Parameters parameters;
  for (const py::handle item : items) {
    const auto pair = py::reinterpret_borrow<py::tuple>(item);
    if (!PyUnicode_Check(pair[0].ptr())) refuse(place, "names that are strs", pair[0]);
    std::string name(*text_or_none(pair[0], place.c_str()));
    std::string inner = place;
    inner.append(".").append(name);
    Value value = value_of(pair[1], inner, depth);
    parameters.emplace_back(std::move(name), std::move(value));
  }
  return parameters;
}

bool is_mapping(py::handle object) {
  return PyDict_Check(object.ptr()) ||
         (PyMapping_Check(object.ptr()) != 0 && py::hasattr(object, "items"));
}

Value value_of(py::handle object, const std::string& place, std::size_t depth) {
  if (depth >= kDeepest) throw InvalidArgument(place + ": values are nested too deeply");
  if (PyBool_Check(object.ptr())) return {object.is(py::handle(Py_True))};
  if (PyUnicode_Check(object.ptr())) return {std::string(*text_or_none(object, place.c_str()))};
  if (PyList_Check(object.ptr()) || PyTuple_Check(object.ptr())) {
    Value::List list;
    for (const py::handle item : py::reinterpret_borrow<py::sequence>(object)) {
      list.push_back(value_of(item, place + "[" + std::to_string(list.size()) + "]", depth + 1));
    }
    return {std::move(list)};
  }
  if (is_mapping(object)) return {parameters_of(object, place, depth + 1)};
  if (PyFloat_Check(object.ptr()) || PyIndex_Check(object.ptr()) != 0) {
    return {number(object, place.c_str())};
  }
  refuse(place, "a number, a bool, a str, a list or a mapping", object);
}

py::object to_python(const Value& value);

py::dict to_python(const PolicySpec::Parameters& parameters) {
  py::dict dict;
  for (const auto& [name, value] : parameters) dict[py::str(name)] = to_python(value);
  return dict;
}

py::object to_python(const Value& value) {
  if (const auto* const number = std::get_if<double>(&value.of)) return py::float_(*number);
  if (const auto* const flag = std::get_if<bool>(&value.of)) return py::bool_(*flag);
  if (const auto* const text = std::get_if<std::string>(&value.of)) return py::str(*text);
  if (const auto* const list = std::get_if<Value::List>(&value.of)) {
    py::list items;
    for (const Value& item : *list) items.append(to_python(item));
    return items;
  }
  return to_python(std::get<PolicySpec::Parameters>(value.of));
}

}  // namespace

PolicySpec policy_spec(py::handle object, const char* field) {
  if (PyUnicode_Check(object.ptr())) return std::string(*text_or_none(object, field));
  if (!is_mapping(object)) {
    refuse(field, "a policy's name, or a mapping of its 'name' and parameters", object);
  }
  PolicySpec spec;
  bool has_name = false;
  for (auto& [name, value] : parameters_of(object, field, 0)) {
    if (name != "name") {
      spec.parameters.emplace_back(std::move(name), std::move(value));
    } else if (auto* const text = std::get_if<std::string>(&value.of)) {
      spec.name = std::move(*text);
      has_name = true;
    }
  }
  if (!has_name) refuse(std::string(field) + ".name", "a policy's name", object);
  return spec;
}

py::dict to_python(const PolicySpec& spec) {
  py::dict dict;
  dict["name"] = py::str(spec.name);
  for (const auto& [name, value] : spec.parameters) dict[py::str(name)] = to_python(value);
  return dict;
}

}  // namespace kvroute::python
