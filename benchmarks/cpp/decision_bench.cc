// A whole decision by policy: hashing 8,192 tokens, matching, scoring, picking, booking, and the
// end of the booking, on a fleet of which a quarter holds a part of the prompt. With and without a
// log of decisions, from one thread and from two. Scoring alone: policy_bench.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kvroute/base/random.h"
#include "kvroute/policy/policy.h"
#include "kvroute/router/router.h"

namespace kvroute {
namespace {

constexpr std::uint32_t kBlockSize = 16;
constexpr std::size_t kTokens = 8'192;
constexpr std::size_t kLogged = 1'000;

const std::vector<std::uint32_t>& prompt() {
  static const std::vector<std::uint32_t> tokens = [] {
    Random random(42);
    std::vector<std::uint32_t> ids(kTokens);
    for (auto& id : ids) id = static_cast<std::uint32_t>(random.below(150'000));
    return ids;
  }();
  return tokens;
}

/// Workers that have reported their load and run some requests; each fourth has begun the prompt.
std::unique_ptr<Router> fleet_at_work(std::int64_t workers, const std::string& policy,
                                      std::size_t decision_log) {
  auto router = std::make_unique<Router>(RouterOptions{.block_size = kBlockSize,
                                                       .policy = policy,
                                                       .memory_limit = {},
                                                       .seed = 1,
                                                       .clock = std::make_shared<VirtualClock>(),
                                                       .decision_log = decision_log});
  Random random(7);
  for (std::int64_t worker = 0; worker < workers; ++worker) {
    router->add_worker({.name = worker,
                        .block_size = {},
                        .kv_events = {},
                        .kv_replay = {},
                        .load_events = {},
                        .total_blocks = 16'384,
                        .labels = {}});
    router->update_load(worker, 0,
                        {.waiting = static_cast<std::uint32_t>(random.below(5)),
                         .running = static_cast<std::uint32_t>(random.below(20)),
                         .kv_usage = random.uniform()});
    const std::vector<WorkerRef> only{{worker, {}}};
    Request request;
    request.allowed = &only;
    if (worker % 4 == 0) {
      request.token_ids = std::span(prompt()).first(1 + random.below(kTokens));
      (void)router->release(router->reserve(request, ""));
    }
    const std::vector<std::uint32_t> other(1 + random.below(kTokens), 1);
    request.token_ids = other;
    (void)router->reserve(request, "");
  }
  return router;
}

void decide(benchmark::State& state, const std::string& policy, std::size_t decision_log) {
  static std::unique_ptr<Router> router;
  if (state.thread_index() == 0) router = fleet_at_work(state.range(0), policy, decision_log);
  Request request;
  request.token_ids = prompt();
  request.session_id = "a conversation";
  for (auto _ : state) (void)router->release(router->reserve(request, ""));
  if (state.thread_index() == 0) state.SetItemsProcessed(state.iterations() * state.threads());
}

const bool registered = [] {
  for (const std::string_view name : policy_names()) {
    const std::string policy(name);
    const auto with = [&](const char* label, std::size_t log) {
      return benchmark::RegisterBenchmark(
                 (std::string(label) + "/" + policy).c_str(),
                 [policy, log](benchmark::State& state) { decide(state, policy, log); })
          ->ArgName("targets")
          ->UseRealTime();
    };
    with("reserve", 0)->Arg(8)->Arg(64)->Arg(512)->Arg(4'096);
    with("reserve", 0)->Arg(64)->Threads(2);
    with("reserve_logged", kLogged)->Arg(64);
  }
  return true;
}();

}  // namespace
}  // namespace kvroute
