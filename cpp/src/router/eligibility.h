#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kvroute/policy/filters.h"
#include "kvroute/router/request.h"
#include "router/target_table.h"

namespace kvroute::detail {

/// Who may be chosen for a request: a router's targets through all filters. Keeps its memory for
/// the next request.
class Eligibility {
 public:
  /// All filters but that of overload, which needs loads. `reasons`: whether to note whom each
  /// filter excludes. \throws InvalidArgument, UnknownWorker
  void find(const Request& request, const TargetTable& targets, bool reasons = false);

  void drop_overloaded(const OverloadLimits& limits, const ScoreInput& input);

  /// \throws NoEligibleWorker if nobody is left, saying why; Overloaded if it is for that alone
  void require_somebody(const Request& request, const TargetTable& targets);

  /// Ascending; valid until the next call.
  [[nodiscard]] std::span<const Slot> slots() const noexcept { return eligible_.slots(); }
  [[nodiscard]] std::span<const std::pair<Slot, Exclusion>> excluded() const noexcept {
    return eligible_.excluded();
  }

 private:
  [[nodiscard]] std::span<const Slot> allowed(const Request& request, const TargetTable& targets);

  Eligible eligible_;
  std::vector<Slot> allowed_;
  std::shared_ptr<const std::vector<Slot>> allowed_set_;
  std::vector<Slot> pinned_;
  bool some_were_overloaded_ = false;
};

/// By slot: the weights of the preferred labels that each target has. Empty without such labels.
void find_preferences(const Request& request, const TargetTable& targets,
                      std::span<const Slot> slots, std::vector<double>& preferences);

}  // namespace kvroute::detail
