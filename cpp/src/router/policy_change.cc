// The policy in force, and its change between two decisions.

#include <utility>

#include "kvroute/base/error.h"
#include "router/router_impl.h"

namespace kvroute {

std::size_t Router::Impl::deciding_phase(const Request& request) const {
  const auto phase = static_cast<std::size_t>(request.phase);
  return policies_[phase].policy ? phase : static_cast<std::size_t>(Phase::kWhole);
}

const std::shared_ptr<const Policy>& Router::Impl::policy_of(const Request& request) const {
  return policies_[deciding_phase(request)].policy;
}

std::string Router::Impl::policy_name() const {
  const std::shared_lock lock(targets_mutex_);
  return std::string(policies_.front().policy->name());
}

std::optional<PolicySpec> Router::Impl::policy_spec(Phase phase) const {
  const std::shared_lock lock(targets_mutex_);
  return policies_[static_cast<std::size_t>(phase)].spec;
}

// Made before the locks are taken, and the old one destroyed after they are given back. Whose turn
// it is goes with the policies that gave the turns: another may be made at the same address.
void Router::Impl::set_policy(const std::optional<PolicySpec>& spec, Phase phase) {
  if (!spec && phase == Phase::kWhole) throw InvalidArgument("policy: expected one, got none");
  PhasePolicy taken{spec, spec ? make_policy(*spec) : nullptr};
  const std::unique_lock lock(targets_mutex_);
  check_open();
  const std::lock_guard load_lock(load_mutex_);
  pick_states_[static_cast<std::size_t>(phase)].turns.clear();
  std::swap(policies_[static_cast<std::size_t>(phase)], taken);
}

}  // namespace kvroute
