#pragma once

#include <array>
#include <atomic>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kvroute/base/phase_fair_mutex.h"
#include "kvroute/events/subscriber.h"
#include "kvroute/load/load_model.h"
#include "kvroute/policy/policy.h"
#include "kvroute/router/router.h"
#include "router/decision.h"
#include "router/decision_log.h"
#include "router/event_sinks.h"
#include "router/index_pool.h"
#include "router/roster.h"
#include "router/target_table.h"

namespace kvroute {

/// What a router consists of, and its locks.
///
/// Locks are taken in this order, and each is held only for what its line says:
///   membership_  adding and removing workers, closing; may wait for the event thread
///   targets_mutex_  shared by decisions, exclusively by a change of the tables (microseconds); who
///                   tells people at length copies what it needs, and gives it back
///   load_mutex_  loads, pick state, bookings; and, in `reserve`, the match, so that selecting and
///                booking are one step
///   (inside)     the trees' own locks; that of the latest roster, which is made before load_mutex_
///                is taken
/// The event thread takes a tree's lock or load_mutex_, nothing else.
class Router::Impl {
 public:
  explicit Impl(RouterOptions options);
  ~Impl();

  void add_worker(const WorkerSpec& spec);
  void remove_worker(const WorkerName& name);
  [[nodiscard]] std::vector<WorkerName> workers() const;
  [[nodiscard]] std::map<std::string, std::string> labels(const WorkerName& name) const;

  void set_draining(const WorkerName& name, bool draining);
  void set_loras(const WorkerName& name, std::vector<std::string> loras);
  [[nodiscard]] std::shared_ptr<const AllowedSet> allowed_set(std::vector<WorkerRef> refs) const;

  [[nodiscard]] Selection select(const Request& request);
  [[nodiscard]] ReservationHandle reserve(const Request& request, std::string request_id);
  [[nodiscard]] ReservedPair reserve_pair(const PairRequest& request, std::string request_id);
  void first_token(BookingId id);
  void progress(BookingId id, std::uint64_t output_tokens);
  bool release(const ReservationHandle& handle, std::span<const std::uint32_t> output_tokens);

  [[nodiscard]] Features features(const Request& request) const;
  [[nodiscard]] Explanation explain(const Request& request) const;
  [[nodiscard]] PairExplanation explain_pair(const PairRequest& request) const;
  [[nodiscard]] std::vector<DecisionRecord> recent_decisions(std::size_t limit) const;
  [[nodiscard]] std::vector<std::pair<TargetId, std::uint64_t>> overlaps(const Request& request,
                                                                         Tier tier) const;
  void update_load(const WorkerName& name, std::uint32_t dp_rank, const EngineLoad& load);
  void learn_kv_room(const WorkerName& name, std::uint32_t dp_rank, std::uint64_t tokens);
  [[nodiscard]] RouterStats stats() const;
  void close();

  [[nodiscard]] const RouterOptions& options() const noexcept { return options_; }
  [[nodiscard]] std::string policy_name() const;
  [[nodiscard]] std::optional<PolicySpec> policy_spec(Phase phase) const;
  void set_policy(const std::optional<PolicySpec>& spec, Phase phase);
  [[nodiscard]] PairOptions pair_options() const;
  void set_pair_options(const PairOptions& options);

 private:
  /// How one worker's events come in.
  struct Feed {
    std::shared_ptr<detail::IndexSink> sink;  // null without KV events
    std::vector<StreamId> kv_streams;         // by rank
    std::vector<StreamId> load_streams;
  };
  struct Endpoints {
    std::vector<std::string> kv_events;
    std::vector<std::string> kv_replay;
    std::vector<std::string> load_events;
  };

  void check_open() const;
  [[nodiscard]] Nanoseconds now() const noexcept { return options_.clock->now(); }

  [[nodiscard]] static Endpoints check(const WorkerSpec& spec);
  [[nodiscard]] detail::Worker take_worker(const WorkerSpec& spec);
  void give_back(const detail::Worker& worker);
  [[nodiscard]] Feed open_feed(const detail::Worker& worker, const Endpoints& endpoints,
                               std::shared_ptr<PrefixTree> tree);
  void close_feed(const Feed& feed);

  [[nodiscard]] std::size_t deciding_phase(const Request& request) const;
  [[nodiscard]] const std::shared_ptr<const Policy>& policy_of(const Request& request) const;

  /// What the log keeps of a decision beside its input and outcome.
  struct LogNote {
    std::shared_ptr<const detail::Roster> roster;  // null: no log
    std::string_view request_id;
  };
  [[nodiscard]] LogNote log_note() const;
  /// One decision's outcome, under load_mutex_ and before its target is noted.
  struct Pick {
    std::size_t position = 0;         // among the candidates
    const Policy* decider = nullptr;  // null: by the caller's costs
  };
  [[nodiscard]] Pick pick(detail::Decision& decision, const Request& request, const LogNote& note);
  [[nodiscard]] ScoreInput input_of(const detail::Decision& decision, const Request& request) const;
  /// A copy of all loads, and of what is counted beside them.
  struct SeenLoads {
    Nanoseconds now = 0;
    std::vector<TargetLoad> loads;
    std::vector<TargetHistory> histories;
    FleetLoad fleet;
    std::size_t bookings = 0;
    std::uint64_t expired = 0;
    std::uint64_t selections = 0;
    std::uint64_t policy_fallbacks = 0;
  };
  [[nodiscard]] SeenLoads see_loads() const;
  [[nodiscard]] ScoreInput input_of(const detail::Decision& decision, const Request& request,
                                    const SeenLoads& seen) const;
  [[nodiscard]] std::vector<TargetId> targets_at(const ScoreInput& input,
                                                 std::span<const std::size_t> positions) const;
  [[nodiscard]] Selection selection(detail::Decision& decision, const Request& request,
                                    Pick pick) const;
  [[nodiscard]] ReservationHandle book(const detail::Decision& decision, const Request& request,
                                       Slot slot, Selection selection, std::string request_id);
  /// An id that no booking runs under, with any of these ends.
  [[nodiscard]] std::string free_request_id(std::string wanted,
                                            std::initializer_list<std::string_view> ends = {""});

  void begin_pair(const PairRequest& request, bool reasons) const;
  /// Whom this thread's pair may be chosen of, without those who are overloaded.
  [[nodiscard]] PairInput pairs_of(const PairRequest& request, const ScoreInput& input) const;
  void record_pair(const PairInput& pairs, const PairPick& pick, const LogNote& note,
                   const std::string& request_id);
  void expire(Nanoseconds now) const;
  bool end_expired(std::size_t more = 0) const;
  bool expire_bookings() const;
  [[nodiscard]] double confidence_of(Slot slot) const;
  void end(const Booking& booking) const;
  void remember(const ReservationHandle& handle, Slot slot,
                std::span<const std::uint32_t> output_tokens);
  [[nodiscard]] TargetStats target_stats(const detail::Worker& worker, std::size_t rank,
                                         std::span<const std::size_t> held,
                                         const SeenLoads& seen) const;

  RouterOptions options_;  // but for the policy, as it was made with

  std::mutex membership_;
  std::unordered_map<WorkerName, Feed> feeds_;  // changed under both, read under either, of
                                                // membership_ and targets_mutex_

  mutable PhaseFairMutex targets_mutex_;
  bool closed_ = false;
  struct PhasePolicy {
    std::optional<PolicySpec> spec;
    std::shared_ptr<const Policy> policy;  // null: that of kWhole
  };
  // By phase; changed under targets_mutex_ and load_mutex_.
  std::array<PhasePolicy, kPhases> policies_;
  detail::TargetTable targets_;
  detail::IndexPool indexes_;
  mutable detail::LatestRoster roster_;

  mutable std::mutex load_mutex_;
  mutable LoadModel load_;                      // whoever looks at it first drops what has expired
  std::array<PickState, kPhases> pick_states_;  // by the phase whose policy decides
  PairOptions pair_options_;
  detail::DecisionLog log_;
  std::uint64_t selections_ = 0;
  std::uint64_t policy_fallbacks_ = 0;
  std::uint64_t made_up_ids_ = 0;

  std::unique_ptr<EventSubscriber> subscriber_;  // made for the first worker with events
};

}  // namespace kvroute
