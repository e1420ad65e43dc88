// A whole decision by policy: hashing 8,192 tokens, matching, scoring, picking, booking, and the
// end of the booking, on a fleet of which a quarter holds a part of the prompt. With and without a
// log of decisions, from one thread and from two, and naming alternatives. Scoring alone:
// policy_bench.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "benchmarked_router.h"
#include "kvroute/base/random.h"
#include "kvroute/policy/policy.h"

namespace kvroute::bench {
namespace {

constexpr std::size_t kTokens = 8'192;
constexpr std::size_t kLogged = 1'000;
constexpr std::uint32_t kAlternatives = 7;

/// Workers that have reported their load and run some requests; each fourth has begun the prompt.
std::unique_ptr<Router> fleet_at_work(std::int64_t workers, const std::string& policy,
                                      std::size_t decision_log) {
  auto router = empty_router(policy, decision_log);
  const auto tokens = prompt(kTokens);
  Random random(7);
  for (std::int64_t worker = 0; worker < workers; ++worker) {
    add_worker(*router, worker, 16'384);
    router->update_load(worker, 0,
                        {.waiting = static_cast<std::uint32_t>(random.below(5)),
                         .running = static_cast<std::uint32_t>(random.below(20)),
                         .kv_usage = random.uniform()});
    const std::vector<WorkerRef> only{{worker, {}}};
    Request request;
    request.allowed = &only;
    if (worker % 4 == 0) {
      request.token_ids = std::span(tokens).first(1 + random.below(kTokens));
      (void)router->release(router->reserve(request, ""));
    }
    const std::vector<std::uint32_t> other(1 + random.below(kTokens), 1);
    request.token_ids = other;
    (void)router->reserve(request, "");
  }
  return router;
}

void decide(benchmark::State& state, const std::string& policy, std::size_t decision_log,
            std::uint32_t alternatives) {
  static std::unique_ptr<Router> router;
  if (state.thread_index() == 0) router = fleet_at_work(state.range(0), policy, decision_log);
  const auto tokens = prompt(kTokens);
  Request request;
  request.token_ids = tokens;
  request.session_id = "a conversation";
  request.alternatives = alternatives;
  for (auto _ : state) (void)router->release(router->reserve(request, ""));
  if (state.thread_index() == 0) state.SetItemsProcessed(state.iterations() * state.threads());
}

/// Both legs of a request, half of the workers being for either.
void decide_pair(benchmark::State& state) {
  const std::int64_t of_a_role = state.range(0);
  const auto router = fleet_at_work(2 * of_a_role, "kv_cost", 0);
  const auto workers_from = [&](std::int64_t first) {
    std::vector<WorkerRef> workers(static_cast<std::size_t>(of_a_role));
    for (std::size_t i = 0; i < workers.size(); ++i) {
      workers[i].worker = first + static_cast<std::int64_t>(i);
    }
    return router->allowed_set(std::move(workers));
  };
  const auto prefill_set = workers_from(0);
  const auto decode_set = workers_from(of_a_role);
  const auto tokens = prompt(kTokens);
  PairRequest request;
  request.prefill.token_ids = tokens;
  request.prefill.allowed_set = prefill_set.get();
  request.decode.allowed_set = decode_set.get();
  for (auto _ : state) {
    const ReservedPair pair = router->reserve_pair(request, "");
    (void)router->release(pair.prefill);
    (void)router->release(pair.decode);
  }
}

const bool registered = [] {
  benchmark::RegisterBenchmark("reserve_pair", &decide_pair)
      ->ArgName("targets_of_a_role")
      ->Arg(8)
      ->Arg(64)
      ->Arg(256);
  for (const std::string_view name : policy_names()) {
    const std::string policy(name);
    const auto with = [&](const char* label, std::size_t log, std::uint32_t alternatives) {
      return benchmark::RegisterBenchmark((std::string(label) + "/" + policy).c_str(),
                                          [policy, log, alternatives](benchmark::State& state) {
                                            decide(state, policy, log, alternatives);
                                          })
          ->ArgName("targets")
          ->UseRealTime();
    };
    with("reserve", 0, 0)->Arg(8)->Arg(64)->Arg(512)->Arg(4'096);
    with("reserve", 0, 0)->Arg(64)->Threads(2);
    with("reserve_logged", kLogged, 0)->Arg(64);
    with("reserve_naming_others", 0, kAlternatives)->Arg(8)->Arg(64)->Arg(512);
  }
  return true;
}();

}  // namespace
}  // namespace kvroute::bench
