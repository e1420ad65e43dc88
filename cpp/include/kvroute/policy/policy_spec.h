#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace kvroute {

/// A policy as data: its name and its parameters, some of which may be policies again. What a
/// configuration file or a Python dict says; `make_policy` makes the policy of it.
///
///     kv_cost
///     {"name": "kv_cost", "overlap_credit": 0.8, "temperature": 0.2}
///     {"name": "gate", "when": "imbalanced", "threshold": 8, "then": "least_loaded",
///      "otherwise": {"name": "weighted", "terms": {"prefix": 3, "queue": 2}}}
struct PolicySpec {
  struct Value;
  struct Parameter;
  using Parameters = std::vector<Parameter>;  // in the order given

  PolicySpec();
  PolicySpec(std::string policy);  // NOLINT(*-explicit-*): a name alone is a whole policy
  PolicySpec(const char* policy);  // NOLINT(*-explicit-*): the same
  PolicySpec(std::string policy, Parameters given);
  PolicySpec(const PolicySpec& other);
  PolicySpec(PolicySpec&& other) noexcept;
  PolicySpec& operator=(const PolicySpec& other);
  PolicySpec& operator=(PolicySpec&& other) noexcept;
  ~PolicySpec();

  std::string name;
  Parameters parameters;
};

/// One parameter: a number, a switch, a text, a list, or named values. A policy inside another one
/// is a text (its name alone) or named values with a "name".
struct PolicySpec::Value {
  using List = std::vector<Value>;
  std::variant<double, bool, std::string, List, Parameters> of;
};

/// A parameter's name and value.
struct PolicySpec::Parameter {
  Parameter(std::string name, Value value) : first(std::move(name)), second(std::move(value)) {}

  std::string first;
  Value second;
};

/// As JSON in one line, for logs and statistics; numbers in their shortest form.
[[nodiscard]] std::string to_string(const PolicySpec& spec);

}  // namespace kvroute
