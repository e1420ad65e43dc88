#include "kvroute/policy/gate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "kvroute/base/error.h"
#include "policy/gate/conditions.h"
#include "policy/spec_reader.h"

namespace kvroute {
namespace {

using When = GateCondition::When;
using Load = GateCondition::Load;

constexpr std::array<std::pair<std::string_view, When>, 4> kWhens{
    {{"imbalanced", When::imbalanced},
     {"overlap_below", When::overlap_below},
     {"overloaded", When::overloaded},
     {"no_session", When::no_session}}};
constexpr std::array<std::pair<std::string_view, Load>, 4> kLoads{
    {{"queue", Load::queue},
     {"requests", Load::requests},
     {"prefill_tokens", Load::prefill_tokens},
     {"kv_usage", Load::kv_usage}}};

template <typename Entries>
auto chosen(detail::SpecReader& reader, std::string_view parameter, const Entries& entries) {
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const auto& [name, value] : entries) names.push_back(name);
  const std::string_view name = reader.choice(parameter, names.front(), names);
  return std::ranges::find(entries, name, &Entries::value_type::first)->second;
}

double threshold(detail::SpecReader& reader, When when) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  const bool of_counts = when == When::imbalanced;  // the others' is a share
  const double given =
      reader.number("threshold", of_counts ? kInfinity : kNone, 0, of_counts ? kInfinity : 1);
  if (!std::isnan(given)) return given;
  throw InvalidArgument(reader.place_of("threshold") + ": expected a number, got none");
}

}  // namespace

bool GateCondition::holds(const ScoreInput& input) const noexcept {
  switch (when) {
    case When::imbalanced: return detail::imbalanced(input, of, threshold);
    case When::overlap_below: return detail::overlap_below(input, threshold);
    case When::overloaded: return detail::overloaded(input, threshold);
    case When::no_session: return detail::no_session(input);
  }
  return false;
}

Gate::Gate(GateCondition condition, std::unique_ptr<Policy> then, std::unique_ptr<Policy> otherwise)
    : condition_(condition), then_(std::move(then)), otherwise_(std::move(otherwise)) {}

std::unique_ptr<Policy> Gate::from(detail::SpecReader& reader) {
  GateCondition condition{.when = chosen(reader, "when", kWhens)};
  if (condition.when != When::no_session) {
    condition.threshold = threshold(reader, condition.when);
  }
  if (condition.when == When::imbalanced) condition.of = chosen(reader, "of", kLoads);
  auto then = reader.policy("then", "least_loaded");
  auto otherwise = reader.policy("otherwise", "kv_cost");
  return std::make_unique<Gate>(condition, std::move(then), std::move(otherwise));
}

const Policy& Gate::decider(const ScoreInput& input) const noexcept {
  return (condition_.holds(input) ? then_ : otherwise_)->decider(input);
}

bool Gate::needs_overlap() const noexcept {
  return condition_.when == When::overlap_below || then_->needs_overlap() ||
         otherwise_->needs_overlap();
}

void Gate::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  decider(input).score(input, costs);
}

std::vector<CostTerm> Gate::terms(const ScoreInput& input, Slot slot) const {
  return decider(input).terms(input, slot);
}

}  // namespace kvroute
