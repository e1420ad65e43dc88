#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvroute/policy/pick.h"
#include "kvroute/policy/policy.h"
#include "kvroute/policy/policy_spec.h"

namespace kvroute::detail {

/// Reads a policy's parameters by name, once each; what is left unread in the end is unknown. All
/// calls throw InvalidArgument, naming the parameter's place ("policy.then.temperature").
class SpecReader {
 public:
  /// `place` is where the spec stands. The spec outlives the reader.
  SpecReader(const PolicySpec& spec, std::string place);

  /// A number within the bounds, infinity included where `most` is, then also as the text "inf",
  /// which JSON has; NaN never.
  [[nodiscard]] double number(std::string_view name, double absent, double least, double most);
  [[nodiscard]] std::uint64_t whole(std::string_view name, std::uint64_t absent,
                                    std::uint64_t least, std::uint64_t most);
  [[nodiscard]] bool flag(std::string_view name, bool absent);
  /// One of `choices`.
  [[nodiscard]] std::string_view choice(std::string_view name, std::string_view absent,
                                        std::vector<std::string_view> choices);
  /// Named numbers, at least one and each within the bounds; empty where absent.
  [[nodiscard]] std::vector<std::pair<std::string, double>> numbers(std::string_view name,
                                                                    double least, double most);
  /// A policy of its own; of the name `absent` where there is none given.
  [[nodiscard]] std::unique_ptr<Policy> policy(std::string_view name, const PolicySpec& absent);
  /// "temperature" (0 to 100) and "sample" (0 to 4,096), with these defaults.
  [[nodiscard]] PickRule pick_rule(PickRule absent = {});

  /// Where parameter `name` stands, for errors of the policy's own.
  [[nodiscard]] std::string place_of(std::string_view name) const;
  /// \throws for parameters that nobody read, naming those that exist
  void finish() const;

 private:
  [[nodiscard]] const PolicySpec::Value* take(std::string_view name);

  const PolicySpec& spec_;
  std::string place_;
  std::vector<std::string_view> known_;
};

/// Makes the policy at that place, as `make_policy` does; depth-limited by the place's length.
[[nodiscard]] std::unique_ptr<Policy> make_policy_at(const PolicySpec& spec, std::string place);

}  // namespace kvroute::detail
