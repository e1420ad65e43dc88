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

/// What `score` and `decide` are told of the request.
struct StatedRequest {
  py::handle num_tokens;
  py::handle block_size;
  py::handle local_hashes;
  py::handle session_id;
  py::handle expected_output_tokens;
  py::handle now;
  OverrideArguments overrides;
};

/// A policy's input from figures that a caller states, instead of a router's. Owns what it views;
/// made and destroyed with the GIL held.
class StatedInput {
 public:
  /// \throws InvalidArgument naming the figure: "targets[2].held: expected ..."
  StatedInput(py::handle targets, py::handle fleet, const StatedRequest& request);

  [[nodiscard]] ScoreInput input() const;

 private:
  struct Target;

  void take_request(const StatedRequest& request);
  void take_fleet(py::handle fleet);
  void take_fleet_field(std::string_view name, py::handle value);
  void take_target(py::handle target);
  void take_target_field(Target& target, std::string_view name, py::handle value);
  void take_load_field(Target& target, std::string_view name, py::handle value);
  void take_history_field(Target& target, std::string_view name, py::handle value);
  void add(const Target& target);
  void order_by_name();

  ScoreInput request_;
  std::optional<HashInput> hashes_;
  FleetLoad fleet_;
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
};

}  // namespace kvroute::python
