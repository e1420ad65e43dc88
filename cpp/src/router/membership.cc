// Adding and removing workers, and closing: Router::Impl's slow side.

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "kvroute/base/error.h"
#include "router/router_impl.h"

namespace kvroute {
namespace {

constexpr std::uint32_t kMaxBlockSize = 65'536;
constexpr std::size_t kMostDecisions = 10'000;

void check_block_size(std::uint32_t block_size) {
  if (block_size == 0 || block_size > kMaxBlockSize) {
    throw InvalidArgument("block_size: expected 1 to " + std::to_string(kMaxBlockSize) +
                          " tokens, got " + std::to_string(block_size));
  }
}

void check_seconds(double seconds, const char* field) {
  if (!std::isfinite(seconds) || seconds <= 0 || seconds > 1e9) {
    throw InvalidArgument(std::string(field) + ": expected seconds, 0 < x <= 1e9, got " +
                          std::to_string(seconds));
  }
}

void check_range(double value, double least, double most, const char* field) {
  if (value >= least && value <= most) return;  // not so: NaN
  throw InvalidArgument(std::string(field) + ": expected a number from " + std::to_string(least) +
                        " to " + std::to_string(most) + ", got " + std::to_string(value));
}

RouterOptions checked(RouterOptions options) {
  check_block_size(options.block_size);
  check_seconds(options.predicted_ttl_seconds, "predicted_ttl");
  check_seconds(options.reservation_ttl_seconds, "reservation_ttl");
  if (options.decision_log > kMostDecisions) {
    throw InvalidArgument("decision_log: expected at most " + std::to_string(kMostDecisions) +
                          " decisions, got " + std::to_string(options.decision_log));
  }
  if (options.overload.kv_usage) check_range(*options.overload.kv_usage, 0, 1, "max_kv_usage");
  if (!options.clock) options.clock = std::make_shared<MonotonicClock>();
  if (!options.seed) options.seed = Random::entropy();
  return options;
}

std::uint32_t capacity_of(const detail::Worker& worker) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::min(*worker.total_blocks, kMost));
}

}  // namespace

Router::Impl::Impl(RouterOptions options)
    : options_(checked(std::move(options))),
      policies_{PhasePolicy{options_.policy, make_policy(options_.policy)}},
      indexes_({.memory_limit = options_.memory_limit,
                .predicted_ttl_seconds = options_.predicted_ttl_seconds,
                .count_copies = true}),
      load_({.reservation_ttl_seconds = options_.reservation_ttl_seconds,
             .prefill = options_.prefill,
             .recent_time_constant = options_.recent_time_constant,
             .window_seconds = options_.load_window_seconds,
             .report_lifetime_seconds = options_.report_lifetime_seconds}),
      pick_states_{PickState(*options_.seed), PickState(*options_.seed + 1),
                   PickState(*options_.seed + 2)},
      log_(options_.decision_log) {
  // A limit that no tree takes must be refused now, not with the first worker.
  if (options_.memory_limit) PrefixTree probe({.memory_limit = options_.memory_limit});
}

Router::Impl::~Impl() { close(); }

void Router::Impl::check_open() const {
  if (closed_) throw InvalidArgument("router: it has been closed");
}

Router::Impl::Endpoints Router::Impl::check(const WorkerSpec& spec) {
  if (spec.dp_ranks == 0 || spec.dp_ranks > kMaxTargets) {
    throw InvalidArgument("dp_ranks: expected 1 to " + std::to_string(kMaxTargets) + ", got " +
                          std::to_string(spec.dp_ranks));
  }
  if (spec.block_size) check_block_size(*spec.block_size);
  if (spec.total_blocks && *spec.total_blocks == 0) {
    throw InvalidArgument("total_blocks: expected at least 1, got 0");
  }
  if (!spec.kv_replay.empty() && spec.kv_events.empty()) {
    throw InvalidArgument("kv_replay: expected none without kv_events, got '" +
                          spec.kv_replay.front() + "'");
  }
  return {.kv_events = endpoints_by_rank(spec.kv_events, spec.dp_ranks, "kv_events"),
          .kv_replay = endpoints_by_rank(spec.kv_replay, spec.dp_ranks, "kv_replay"),
          .load_events = endpoints_by_rank(spec.load_events, spec.dp_ranks, "load_events")};
}

detail::Worker Router::Impl::take_worker(const WorkerSpec& spec) {
  const std::unique_lock lock(targets_mutex_);
  check_open();
  if (targets_.find(spec.name) != nullptr) {
    throw InvalidArgument("worker: expected a name that is not in use, got " +
                          to_string(spec.name));
  }
  const std::uint32_t block_size = spec.block_size.value_or(options_.block_size);
  return {.name = spec.name,
          .block_size = block_size,
          .slots = targets_.take_slots(spec.name, spec.dp_ranks, block_size),
          .total_blocks = spec.total_blocks,
          .bounded = spec.total_blocks && spec.kv_events.empty(),
          .labels = spec.labels,
          .loras = {},
          .draining = false};
}

Router::Impl::Feed Router::Impl::open_feed(const detail::Worker& worker, const Endpoints& endpoints,
                                           std::shared_ptr<PrefixTree> tree) {
  Feed feed;
  if (endpoints.kv_events.empty() && endpoints.load_events.empty()) return feed;
  if (!subscriber_) subscriber_ = std::make_unique<EventSubscriber>();
  try {
    if (!endpoints.kv_events.empty()) {
      feed.sink = std::make_shared<detail::IndexSink>(to_string(worker.name), std::move(tree),
                                                      worker.slots);
    }
    for (std::uint32_t rank = 0; rank < endpoints.kv_events.size(); ++rank) {
      feed.kv_streams.push_back(subscriber_->add_stream(
          KvStreamConfig{.endpoint = endpoints.kv_events[rank],
                         .bind = false,
                         .replay_endpoint = endpoints.kv_replay.empty() ? std::string()
                                                                        : endpoints.kv_replay[rank],
                         .topic = {},
                         .block_size = worker.block_size,
                         .dp_rank = rank,
                         .label = to_string(TargetId{worker.name, rank}),
                         .sink = feed.sink}));
    }
    const auto take = [this](Slot slot, const LoadReport& report) {
      const std::lock_guard lock(load_mutex_);
      load_.report(slot, {.waiting = report.waiting, .running = {}, .kv_usage = report.kv_usage},
                   now());
    };
    for (std::uint32_t rank = 0; rank < endpoints.load_events.size(); ++rank) {
      feed.load_streams.push_back(subscriber_->add_stream(
          LoadStreamConfig{.endpoint = endpoints.load_events[rank],
                           .bind = false,
                           .topic = {},
                           .dp_rank = rank,
                           .label = to_string(TargetId{worker.name, rank}),
                           .sink = std::make_shared<detail::LoadReportSink>(worker.slots, take)}));
    }
  } catch (...) {
    close_feed(feed);
    throw;
  }
  return feed;
}

void Router::Impl::close_feed(const Feed& feed) {
  for (const StreamId id : feed.kv_streams) subscriber_->remove_stream(id);
  for (const StreamId id : feed.load_streams) subscriber_->remove_stream(id);
}

// The event thread may apply the first events before the worker is listed: they are for its slots
// and do no harm.
void Router::Impl::add_worker(const WorkerSpec& spec) {
  const Endpoints endpoints = check(spec);
  const std::lock_guard membership(membership_);
  detail::Worker worker = take_worker(spec);
  std::shared_ptr<PrefixTree> tree;
  {
    const std::unique_lock lock(targets_mutex_);
    tree = indexes_.acquire(worker.block_size);
    if (worker.bounded) {
      for (const Slot slot : worker.slots) tree->set_capacity(slot, capacity_of(worker));
    }
    const std::lock_guard load_lock(load_mutex_);
    for (const Slot slot : worker.slots) load_.add_target(slot, now());
  }
  Feed feed;
  try {
    feed = open_feed(worker, endpoints, tree);
  } catch (...) {
    give_back(worker);
    throw;
  }
  const std::unique_lock lock(targets_mutex_);
  feeds_.emplace(worker.name, std::move(feed));
  targets_.list(std::move(worker));
}

// First nobody can choose it any more, then no event of it comes any more, then its state goes,
// and only then its slots may serve another.
void Router::Impl::remove_worker(const WorkerName& name) {
  const std::lock_guard membership(membership_);
  detail::Worker worker;
  Feed feed;
  {
    const std::unique_lock lock(targets_mutex_);
    check_open();
    (void)targets_.at(name, "worker");
    worker = targets_.unlist(name);
    feed = std::move(feeds_.extract(name).mapped());
  }
  close_feed(feed);
  give_back(worker);
}

// Only a target that nobody can choose any more is given back. Its tree is swept without any of our
// locks, since that takes time in proportion to what the target held.
void Router::Impl::give_back(const detail::Worker& worker) {
  std::shared_ptr<PrefixTree> tree;
  {
    const std::shared_lock lock(targets_mutex_);
    tree = indexes_.share(worker.block_size);
    const std::lock_guard load_lock(load_mutex_);
    for (const Slot slot : worker.slots) {
      for (const Booking& booking : load_.remove_target(slot)) {
        (void)tree->unpin(slot, std::bit_cast<Pin>(booking.place));
      }
    }
  }
  for (const Slot slot : worker.slots) tree->release_slot(slot);
  const std::unique_lock lock(targets_mutex_);
  indexes_.release(worker.block_size);
  targets_.free_slots(worker.slots);
}

void Router::Impl::close() {
  const std::lock_guard membership(membership_);
  if (subscriber_) subscriber_->close();
  while (true) {
    detail::Worker worker;
    {
      const std::unique_lock lock(targets_mutex_);
      closed_ = true;
      const auto workers = targets_.workers();
      if (workers.empty()) break;
      worker = targets_.unlist(workers.front()->name);
    }
    give_back(worker);
  }
  const std::unique_lock lock(targets_mutex_);
  feeds_.clear();
}

std::vector<WorkerName> Router::Impl::workers() const {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  std::vector<WorkerName> names;
  for (const detail::Worker* worker : targets_.workers()) names.push_back(worker->name);
  return names;
}

// It seldom differs from what is known, and then a shared lock is enough to see that.
void Router::Impl::learn_kv_room(const WorkerName& name, std::uint32_t dp_rank,
                                 std::uint64_t tokens) {
  const auto is_new = [&] {
    const detail::Worker* const worker = targets_.find(name);
    if (worker == nullptr || worker->total_blocks || dp_rank >= worker->slots.size()) return false;
    const std::uint64_t blocks = tokens / worker->block_size;
    return blocks > 0 && blocks != targets_.total_blocks()[worker->slots[dp_rank]];
  };
  {
    const std::shared_lock lock(targets_mutex_);
    if (!is_new()) return;
  }
  const std::unique_lock lock(targets_mutex_);
  if (!is_new()) return;  // meanwhile it left, or another told it
  const detail::Worker& worker = targets_.at(name, "worker");
  targets_.learn_total_blocks(worker.slots[dp_rank], tokens / worker.block_size);
}

void Router::Impl::set_draining(const WorkerName& name, bool draining) {
  const std::unique_lock lock(targets_mutex_);
  check_open();
  targets_.set_draining(name, draining);
}

void Router::Impl::set_loras(const WorkerName& name, std::vector<std::string> loras) {
  const std::unique_lock lock(targets_mutex_);
  check_open();
  targets_.set_loras(name, std::move(loras));
}

// Looked up once now, so that a name that was never added is refused.
std::shared_ptr<const AllowedSet> Router::Impl::allowed_set(std::vector<WorkerRef> refs) const {
  auto allowed = std::make_shared<const AllowedSet>(std::move(refs));
  const std::shared_lock lock(targets_mutex_);
  check_open();
  std::vector<Slot> slots;
  targets_.slots_of(allowed->refs(), slots);
  return allowed;
}

std::map<std::string, std::string> Router::Impl::labels(const WorkerName& name) const {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  return targets_.at(name, "worker").labels;
}

}  // namespace kvroute
