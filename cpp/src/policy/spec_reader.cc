#include "policy/spec_reader.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include "kvroute/base/error.h"

namespace kvroute::detail {
namespace {

constexpr std::size_t kMaxPlace = 256;  // policies inside policies: bounded, since made recursively

std::string text_of(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), static_cast<std::size_t>(end - text.data())};
}

std::string describe(const PolicySpec::Value& value) {
  if (const auto* const number = std::get_if<double>(&value.of)) return text_of(*number);
  if (const auto* const flag = std::get_if<bool>(&value.of)) return *flag ? "true" : "false";
  if (const auto* const text = std::get_if<std::string>(&value.of)) return "'" + *text + "'";
  return std::holds_alternative<PolicySpec::Value::List>(value.of) ? "a list" : "named values";
}

template <typename Names>
std::string listed(const Names& names) {
  std::string text;
  for (const auto& name : names) {
    text += (text.empty() ? "'" : ", '") + std::string(name) + "'";
  }
  return text;
}

[[noreturn]] void refuse(const std::string& place, const std::string& expected,
                         const std::string& got) {
  throw InvalidArgument(place + ": expected " + expected + ", got " + got);
}

double checked_number(const PolicySpec::Value& value, double least, double most,
                      const std::string& place) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto* const text = std::get_if<std::string>(&value.of);
  if (text != nullptr && *text == "inf" && most == kInfinity) return kInfinity;
  const auto* const number = std::get_if<double>(&value.of);
  const bool within = number != nullptr && *number >= least && *number <= most;  // not so: NaN
  if (!within) {
    refuse(place, "a number from " + text_of(least) + " to " + text_of(most), describe(value));
  }
  return *number;
}

}  // namespace

SpecReader::SpecReader(const PolicySpec& spec, std::string place)
    : spec_(spec), place_(std::move(place)) {
  if (place_.size() > kMaxPlace) {
    throw InvalidArgument(place_.substr(0, kMaxPlace) + "...: policies are nested too deeply");
  }
  for (std::size_t i = 0; i < spec.parameters.size(); ++i) {
    const std::string& name = spec.parameters[i].first;
    for (std::size_t j = 0; j < i; ++j) {
      if (spec.parameters[j].first == name) refuse(place_of(name), "it once", "it twice");
    }
  }
}

std::string SpecReader::place_of(std::string_view name) const {
  return place_ + "." + std::string(name);
}

const PolicySpec::Value* SpecReader::take(std::string_view name) {
  known_.push_back(name);
  for (const auto& [given, value] : spec_.parameters) {
    if (given == name) return &value;
  }
  return nullptr;
}

double SpecReader::number(std::string_view name, double absent, double least, double most) {
  const auto* const value = take(name);
  return value == nullptr ? absent : checked_number(*value, least, most, place_of(name));
}

std::uint64_t SpecReader::whole(std::string_view name, std::uint64_t absent, std::uint64_t least,
                                std::uint64_t most) {
  const auto* const value = take(name);
  if (value == nullptr) return absent;
  const auto* const number = std::get_if<double>(&value->of);
  if (number == nullptr || !(*number >= static_cast<double>(least)) ||
      !(*number <= static_cast<double>(most)) ||
      static_cast<double>(static_cast<std::uint64_t>(*number)) != *number) {
    refuse(place_of(name),
           "a whole number from " + std::to_string(least) + " to " + std::to_string(most),
           describe(*value));
  }
  return static_cast<std::uint64_t>(*number);
}

bool SpecReader::flag(std::string_view name, bool absent) {
  const auto* const value = take(name);
  if (value == nullptr) return absent;
  const auto* const flag = std::get_if<bool>(&value->of);
  if (flag == nullptr) refuse(place_of(name), "true or false", describe(*value));
  return *flag;
}

std::string_view SpecReader::choice(std::string_view name, std::string_view absent,
                                    std::vector<std::string_view> choices) {
  const auto* const value = take(name);
  if (value == nullptr) return absent;
  const auto* const text = std::get_if<std::string>(&value->of);
  const auto found = text == nullptr ? choices.end() : std::ranges::find(choices, *text);
  if (found == choices.end()) {
    refuse(place_of(name), "one of " + listed(choices), describe(*value));
  }
  return *found;
}

std::vector<std::pair<std::string, double>> SpecReader::numbers(std::string_view name, double least,
                                                                double most) {
  const auto* const value = take(name);
  std::vector<std::pair<std::string, double>> numbers;
  if (value == nullptr) return numbers;
  const auto* const named = std::get_if<PolicySpec::Parameters>(&value->of);
  if (named == nullptr) refuse(place_of(name), "named numbers", describe(*value));
  if (named->empty()) refuse(place_of(name), "at least one named number", "none");
  for (const auto& [key, item] : *named) {
    numbers.emplace_back(key, checked_number(item, least, most, place_of(name) + "." + key));
  }
  return numbers;
}

std::unique_ptr<Policy> SpecReader::policy(std::string_view name, const PolicySpec& absent) {
  const auto* const value = take(name);
  if (value == nullptr) return make_policy_at(absent, place_of(name));
  if (const auto* const text = std::get_if<std::string>(&value->of)) {
    return make_policy_at(*text, place_of(name));
  }
  const auto* const named = std::get_if<PolicySpec::Parameters>(&value->of);
  if (named == nullptr) refuse(place_of(name), "a policy", describe(*value));
  PolicySpec inner;
  bool has_name = false;
  for (const auto& [key, item] : *named) {
    if (key != "name") {
      inner.parameters.emplace_back(key, item);
    } else if (const auto* const text = std::get_if<std::string>(&item.of); !has_name && text) {
      inner.name = *text;
      has_name = true;
    }
  }
  if (!has_name) refuse(place_of(name) + ".name", "a policy's name", "none");
  return make_policy_at(inner, place_of(name));
}

PickRule SpecReader::pick_rule(PickRule absent) {
  return {.temperature = number("temperature", absent.temperature, 0, 100),
          .sample = static_cast<std::uint32_t>(whole("sample", absent.sample, 0, kMaxTargets))};
}

void SpecReader::finish() const {
  for (const auto& [given, value] : spec_.parameters) {
    if (std::ranges::find(known_, given) != known_.end()) continue;
    std::string message = place_;
    message.append(": expected ");
    message.append(known_.empty() ? "no parameters" : "one of ").append(listed(known_));
    throw InvalidArgument(message.append(", got '").append(given).append("'"));
  }
}

}  // namespace kvroute::detail
