#include "kvroute/policy/policy_spec.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>

namespace kvroute {
namespace {

void write(std::string_view value, std::string& out) {
  out += '"';
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      std::array<char, 8> escape{};
      const int length = std::snprintf(escape.data(), escape.size(), "\\u%04x", byte);
      out.append(escape.data(), static_cast<std::size_t>(length));
    } else {
      out += c;
    }
  }
  out += '"';
}

// JSON has no infinity: as Python reads and writes it.
void write(double value, std::string& out) {
  if (std::isinf(value)) {
    out += value > 0 ? "Infinity" : "-Infinity";
    return;
  }
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  out.append(text.data(), static_cast<std::size_t>(end - text.data()));
}

void write(const PolicySpec::Parameters& parameters, std::string& out);

void write(const PolicySpec::Value& value, std::string& out) {
  if (const auto* const number = std::get_if<double>(&value.of)) {
    write(*number, out);
  } else if (const auto* const flag = std::get_if<bool>(&value.of)) {
    out += *flag ? "true" : "false";
  } else if (const auto* const text = std::get_if<std::string>(&value.of)) {
    write(std::string_view(*text), out);
  } else if (const auto* const list = std::get_if<PolicySpec::Value::List>(&value.of)) {
    out += '[';
    for (const PolicySpec::Value& item : *list) {
      if (&item != list->data()) out += ", ";
      write(item, out);
    }
    out += ']';
  } else {
    write(std::get<PolicySpec::Parameters>(value.of), out);
  }
}

void write(const PolicySpec::Parameters& parameters, std::string& out) {
  out += '{';
  for (const auto& parameter : parameters) {
    if (&parameter != parameters.data()) out += ", ";
    write(std::string_view(parameter.first), out);
    out += ": ";
    write(parameter.second, out);
  }
  out += '}';
}

}  // namespace

// Here, where a value is complete.
PolicySpec::PolicySpec() = default;
PolicySpec::PolicySpec(const PolicySpec& other) = default;
PolicySpec::PolicySpec(PolicySpec&& other) noexcept = default;
PolicySpec& PolicySpec::operator=(const PolicySpec& other) = default;
PolicySpec& PolicySpec::operator=(PolicySpec&& other) noexcept = default;
PolicySpec::~PolicySpec() = default;
PolicySpec::PolicySpec(std::string policy) : name(std::move(policy)) {}
PolicySpec::PolicySpec(const char* policy) : name(policy) {}
PolicySpec::PolicySpec(std::string policy, Parameters given)
    : name(std::move(policy)), parameters(std::move(given)) {}

std::string to_string(const PolicySpec& spec) {
  PolicySpec::Parameters all{{"name", {spec.name}}};
  all.insert(all.end(), spec.parameters.begin(), spec.parameters.end());
  std::string out;
  write(all, out);
  return out;
}

}  // namespace kvroute
