#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"
#include "kvroute/base/tier.h"
#include "kvroute/hash/block_hash.h"
#include "kvroute/load/load_model.h"
#include "kvroute/load/prefill_model.h"
#include "kvroute/policy/filters.h"
#include "kvroute/policy/pair_choice.h"
#include "kvroute/policy/policy_spec.h"
#include "kvroute/router/allowed_set.h"
#include "kvroute/router/decision_record.h"
#include "kvroute/router/features.h"
#include "kvroute/router/request.h"
#include "kvroute/router/router_stats.h"
#include "kvroute/router/selection.h"
#include "kvroute/router/worker_spec.h"

namespace kvroute {

struct RouterOptions {
  std::uint32_t block_size = 0;  ///< tokens per block of workers that do not state their own
  PolicySpec policy = "kv_cost";
  std::optional<std::size_t> memory_limit;  ///< bytes of all indexes together; absent: none
  std::optional<std::uint64_t> seed;        ///< of the generator; absent: from the system
  std::shared_ptr<const Clock> clock;       ///< absent: the monotonic clock
  double predicted_ttl_seconds = 120.0;
  double reservation_ttl_seconds = 600.0;
  PrefillModel prefill{};               ///< how long engines compute on prompts; in proportion
  double recent_time_constant = 30;     ///< seconds in which the memory of picks fades
  double load_window_seconds = 60;      ///< of request rates and mean times to first token
  double report_lifetime_seconds = 60;  ///< an engine's report counts for so long
  std::size_t decision_log = 0;         ///< decisions that are kept for `recent_decisions`
  OverloadLimits overload = {};         ///< beyond, a target takes no further request
};

/// A reservation's handle. What its release needs of the prompt is kept here, so that it lives no
/// longer than its owner.
struct ReservationHandle {
  BookingId id = 0;
  Selection selection;
  std::string request_id;
  std::uint32_t block_size = 0;
  std::uint64_t seed = 0;                   ///< of the request's namespace
  std::vector<std::uint64_t> local_hashes;  ///< of the prompt's full blocks
  std::vector<std::uint32_t> tail;          ///< its tokens after them
  bool is_tail_known = true;                ///< false: hashes were given, of a part of the prompt
};

/// The two legs of one request: its prompt on one target, its answer from another, or the same.
struct ReservedPair {
  ReservationHandle prefill;
  ReservationHandle decode;
};

/// Chooses, for each request, the target that already holds its KV cache and has room.
///
/// Wires the event streams to the index, and the index and the load model to the policy. Everything
/// that it keeps is bounded: the index in bytes, bookings in age and count.
///
/// Thread-safe. Decisions run in parallel but for the policy's pick and its booking, which take one
/// short lock; they never wait for a batch of events, only for one event's application.
class Router {
 public:
  /// \throws InvalidArgument for a block size of 0 or above 65,536, an unknown policy, times that
  /// are not positive, or a prefill model that LoadOptions::check refuses.
  explicit Router(RouterOptions options);
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;
  ~Router();

  [[nodiscard]] std::uint32_t block_size() const noexcept;
  /// The policy's name, and the data that it was made of.
  [[nodiscard]] std::string policy() const;
  [[nodiscard]] PolicySpec policy_spec() const;
  /// Chooses by another policy from the next decision on; index, bookings and the generator stay.
  /// \throws InvalidArgument for what `make_policy` refuses; the policy is then unchanged.
  void set_policy(const PolicySpec& spec);
  /// The same for requests of one phase alone; absent: they go by the router's policy again, as
  /// they do at the beginning. For kWhole there must be one.
  void set_policy(const std::optional<PolicySpec>& spec, Phase phase);
  /// The policy of one phase's own; absent: it has none.
  [[nodiscard]] std::optional<PolicySpec> policy_spec(Phase phase) const;

  /// \throws InvalidArgument when the name is taken, an endpoint is malformed or cannot be bound,
  /// a number is out of range, or there are too many targets; the router is then unchanged.
  void add_worker(const WorkerSpec& spec);

  /// Forgets the worker, its blocks and its bookings. When this returns no event of it is being
  /// applied. \throws UnknownWorker
  void remove_worker(const WorkerName& name);

  /// Names in the order of adding.
  [[nodiscard]] std::vector<WorkerName> workers() const;
  /// \throws UnknownWorker
  [[nodiscard]] std::map<std::string, std::string> labels(const WorkerName& name) const;

  /// A worker that drains is not chosen any more; what runs there goes on. \throws UnknownWorker
  void set_draining(const WorkerName& name, bool draining);
  /// The LoRA adapters that the worker has resident, in place of those said before. A request that
  /// names one goes to those who have it, if any of them is eligible; else to anybody.
  /// \throws UnknownWorker
  void set_loras(const WorkerName& name, std::vector<std::string> loras);
  /// Workers or ranks for `Request::allowed_set`. \throws InvalidArgument, UnknownWorker
  [[nodiscard]] std::shared_ptr<const AllowedSet> allowed_set(std::vector<WorkerRef> refs) const;

  /// Chooses a target; books and predicts nothing. O(blocks + targets), and with alternatives
  /// O(targets * log alternatives) more.
  /// \throws InvalidArgument for a request without tokens, or with fewer tokens than its hashes
  /// stand for, an empty `allowed`, or more than kMaxTargets alternatives; UnknownWorker;
  /// Overloaded where all who would be eligible are overloaded; NoEligibleWorker
  [[nodiscard]] Selection select(const Request& request);

  /// Select, book and predict in one critical section. An empty `request_id` is replaced by one of
  /// the router's own. With hashes in place of tokens, full blocks of the prompt for which the
  /// target's block size has none count as the booking's own: nobody shares them, and they are not
  /// predicted. \throws also InvalidArgument for one that is running
  [[nodiscard]] ReservationHandle reserve(const Request& request, std::string request_id);

  /// Chooses the targets of both legs together, by PairChooser instead of the phases' policies, and
  /// books both in one critical section: so simultaneous requests see each other's legs. Ids are
  /// `request_id` with "/prefill" and "/decode". Of both selections the rule is "joint", and the
  /// cost the pair's predicted seconds to first token. Filters and limits as in `reserve`, for each
  /// leg by itself; errors name the leg (NoEligibleWorker::phase). Nothing is booked if it throws.
  [[nodiscard]] ReservedPair reserve_pair(const PairRequest& request, std::string request_id);

  /// What `reserve_pair` rests on, from the next pair on. \throws InvalidArgument
  void set_pair_options(const PairOptions& options);
  [[nodiscard]] PairOptions pair_options() const;

  /// A booking's course. Each does nothing once the booking has ended, in whatever way.
  void first_token(BookingId id);
  void progress(BookingId id, std::uint64_t output_tokens);
  /// Ends the booking. With output tokens, the blocks that prompt and output fill together become
  /// predicted for the target, but for the last token, which was sampled and not computed. Only the
  /// prompt's where it was given as hashes that do not cover it to its last token. On a
  /// target whose predictions its capacity bounds, the prompt counts as just used either way.
  /// True if this call ended it.
  bool release(const ReservationHandle& handle, std::span<const std::uint32_t> output_tokens = {});

  /// What a policy outside the core may look at, for `Request::given` of the same request. Each
  /// throws as `select` does.
  [[nodiscard]] Features features(const Request& request) const;

  /// Every target and every term of its cost, or the filter that excludes it. Changes nothing.
  [[nodiscard]] Explanation explain(const Request& request) const;

  /// The pair that `reserve_pair` would choose now, and what each candidate of a leg would cost
  /// beside the chosen target of the other. Changes nothing. \throws as `reserve_pair` does
  [[nodiscard]] PairExplanation explain_pair(const PairRequest& request) const;

  /// The last decisions, at most `limit` of those that RouterOptions::decision_log keeps, the
  /// oldest first. It keeps fewer where loads change much between decisions, or where they would
  /// take more than 256 MiB (some 6,000 on 4,096 targets).
  [[nodiscard]] std::vector<DecisionRecord> recent_decisions(std::size_t limit) const;

  /// Cached tokens of each target that holds at least one leading block of the request, where a
  /// block may lie in any tier from the device to `tier`.
  [[nodiscard]] std::vector<std::pair<TargetId, std::uint64_t>> overlaps(
      const Request& request, Tier tier = Tier::device) const;

  /// What an engine says of one rank. `kv_tokens`: so many tokens its KV cache has room for; it
  /// counts as its total blocks for policies where the worker was added without them.
  /// \throws UnknownWorker, InvalidArgument for a usage outside [0, 1]
  void update_load(const WorkerName& name, std::uint32_t dp_rank, const EngineLoad& load,
                   std::optional<std::uint64_t> kv_tokens = {});

  [[nodiscard]] RouterStats stats() const;

  /// Stops the event thread. Afterwards the calls above throw InvalidArgument, but for those on
  /// bookings, which do nothing. May be called again.
  void close();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvroute
