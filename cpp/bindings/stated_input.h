#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "arguments.h"
#include "integer_input.h"
#include "kvroute/policy/score_input.h"
#include "pybind.h"

namespace kvroute::python {

/// What `score` and `decide` take by keyword, in this order.
struct StatedArguments {
  py::handle num_tokens;
  py::handle block_size;
  py::handle local_hashes;
  py::handle session_id;
  py::handle expected_output_tokens;
  py::handle now;
  py::handle fleet;
  OverrideArguments overrides;
};

/// A policy's input from figures that a caller states, instead of a router's. Owns what it views;
/// made and destroyed with the GIL held.
class StatedInput {
 public:
  /// \throws InvalidArgument naming the figure: "targets[2].held: expected ..."
  StatedInput(py::handle targets, const StatedArguments& arguments);

  [[nodiscard]] ScoreInput input() const;

 private:
  struct Target;

  void take_request(const StatedArguments& request);
  void take_fleet(py::handle fleet);
  void take_fleet_field(std::string_view name, py::handle value);
  void take_target(py::handle target);
  void take_target_field(Target& target, std::string_view name, py::handle value);
  void take_load_field(Target& target, std::string_view name, py::handle value);
  void take_history_field(Target& target, std::string_view name, py::handle value);
  void add(const Target& target);
  void count_arrivals();
  void order_by_name();

  ScoreInput request_;
  std::optional<HashInput> hashes_;
  FleetLoad fleet_;
  std::optional<double> arrival_memory_;  // as it is stated
  std::vector<Nanoseconds> fleet_arrivals_;
  std::vector<TargetId> names_;
  std::vector<Slot> candidates_;
  std::array<std::vector<std::uint32_t>, kTiers> depths_;
  bool has_lower_tiers_ = false;
  std::vector<std::uint32_t> active_;
  std::vector<std::uint32_t> block_sizes_;
  std::vector<std::uint64_t> total_blocks_;
  std::vector<std::uint64_t> identities_;
  std::vector<std::uint32_t> turns_;
  std::vector<double> preferences_;
  std::vector<TargetLoad> loads_;
  std::vector<TargetHistory> histories_;
  std::vector<std::vector<Nanoseconds>> arrivals_;  // by target
};

}  // namespace kvroute::python
