// The policy in force, and its change between two decisions.

#include <utility>

#include "router/router_impl.h"

namespace kvroute {

std::string Router::Impl::policy_name() const {
  const std::shared_lock lock(targets_mutex_);
  return std::string(policy_->name());
}

PolicySpec Router::Impl::policy_spec() const {
  const std::shared_lock lock(targets_mutex_);
  return policy_spec_;
}

// Made before the locks are taken, and the old one destroyed after they are given back. Whose turn
// it is goes with the policies that gave the turns: another may be made at the same address.
void Router::Impl::set_policy(const PolicySpec& spec) {
  std::shared_ptr<const Policy> policy = make_policy(spec);
  PolicySpec taken = spec;
  const std::unique_lock lock(targets_mutex_);
  check_open();
  const std::lock_guard load_lock(load_mutex_);
  pick_state_.turns.clear();
  std::swap(policy_spec_, taken);
  policy_.swap(policy);
}

}  // namespace kvroute
