#include "kvroute/router/router.h"

#include <utility>

#include "router/router_impl.h"

namespace kvroute {

Router::Router(RouterOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Router::~Router() = default;

std::uint32_t Router::block_size() const noexcept { return impl_->options().block_size; }
std::string Router::policy() const { return impl_->policy_name(); }
PolicySpec Router::policy_spec() const { return *impl_->policy_spec(Phase::kWhole); }
void Router::set_policy(const PolicySpec& spec) { impl_->set_policy(spec, Phase::kWhole); }
void Router::set_policy(const std::optional<PolicySpec>& spec, Phase phase) {
  impl_->set_policy(spec, phase);
}
std::optional<PolicySpec> Router::policy_spec(Phase phase) const {
  return impl_->policy_spec(phase);
}
PairOptions Router::pair_options() const { return impl_->pair_options(); }
void Router::set_pair_options(const PairOptions& options) { impl_->set_pair_options(options); }

void Router::add_worker(const WorkerSpec& spec) { impl_->add_worker(spec); }
void Router::remove_worker(const WorkerName& name) { impl_->remove_worker(name); }
std::vector<WorkerName> Router::workers() const { return impl_->workers(); }
std::map<std::string, std::string> Router::labels(const WorkerName& name) const {
  return impl_->labels(name);
}

void Router::set_draining(const WorkerName& name, bool draining) {
  impl_->set_draining(name, draining);
}
void Router::set_loras(const WorkerName& name, std::vector<std::string> loras) {
  impl_->set_loras(name, std::move(loras));
}
std::shared_ptr<const AllowedSet> Router::allowed_set(std::vector<WorkerRef> refs) const {
  return impl_->allowed_set(std::move(refs));
}

Selection Router::select(const Request& request) { return impl_->select(request); }
ReservationHandle Router::reserve(const Request& request, std::string request_id) {
  return impl_->reserve(request, std::move(request_id));
}
ReservedPair Router::reserve_pair(const PairRequest& request, std::string request_id) {
  return impl_->reserve_pair(request, std::move(request_id));
}
void Router::first_token(BookingId id) { impl_->first_token(id); }
void Router::progress(BookingId id, std::uint64_t output_tokens) {
  impl_->progress(id, output_tokens);
}
bool Router::release(const ReservationHandle& handle,
                     std::span<const std::uint32_t> output_tokens) {
  return impl_->release(handle, output_tokens);
}

Features Router::features(const Request& request) const { return impl_->features(request); }
std::vector<DecisionRecord> Router::recent_decisions(std::size_t limit) const {
  return impl_->recent_decisions(limit);
}
Explanation Router::explain(const Request& request) const { return impl_->explain(request); }
PairExplanation Router::explain_pair(const PairRequest& request) const {
  return impl_->explain_pair(request);
}
std::vector<std::pair<TargetId, std::uint64_t>> Router::overlaps(const Request& request,
                                                                 Tier tier) const {
  return impl_->overlaps(request, tier);
}
void Router::update_load(const WorkerName& name, std::uint32_t dp_rank, const EngineLoad& load,
                         std::optional<std::uint64_t> kv_tokens) {
  impl_->update_load(name, dp_rank, load);
  if (kv_tokens) impl_->learn_kv_room(name, dp_rank, *kv_tokens);
}
RouterStats Router::stats() const { return impl_->stats(); }
void Router::close() { impl_->close(); }

}  // namespace kvroute
