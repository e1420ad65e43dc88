// What scoring and picking cost beyond matching: every policy on a fleet that is at work.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "kvroute/base/random.h"
#include "kvroute/policy/pair_choice.h"
#include "kvroute/policy/policy.h"

namespace kvroute {
namespace {

constexpr std::uint32_t kBlockSize = 16;
constexpr Nanoseconds kNow = 1'000'000'000'000;

/// Owns what a ScoreInput points to: targets with bookings, reports and histories at random, of
/// which a quarter hold some of the request, half of it at the most.
class Fleet {
 public:
  explicit Fleet(std::size_t targets)
      : random_(11),
        hashes_(512),
        candidates_(targets),
        held_(targets),
        active_(targets),
        block_sizes_(targets, kBlockSize),
        total_blocks_(targets, 16'384),
        identities_(targets),
        turns_(targets),
        loads_(targets),
        histories_(targets) {
    std::iota(candidates_.begin(), candidates_.end(), 0U);
    std::iota(turns_.begin(), turns_.end(), 0U);
    for (auto& hash : hashes_) hash = random_.next();
    for (std::size_t i = 0; i < targets; ++i) fill(i);
    fleet_.targets = static_cast<std::uint32_t>(targets);
    fleet_.arrival_memory = 32.0 * static_cast<double>(targets);
    for (int i = 0; i < 100; ++i) fleet_.arrivals.add(kNow + (i - 100) * 10'000'000, 100);
    fleet_.prefill_seconds.add(0.4, 64);
    fleet_.output_tokens.add(200, 64);
    fleet_.decode_seconds.add(4, 64);
  }

  [[nodiscard]] ScoreInput input() const {
    ScoreInput input;
    input.num_tokens = 8'192;
    input.block_size = kBlockSize;
    input.hashes = hashes_;
    input.candidates = candidates_;
    input.held = held_;
    input.active = active_;
    input.block_sizes = block_sizes_;
    input.total_blocks = total_blocks_;
    input.identities = identities_;
    input.turns = turns_;
    input.loads = loads_;
    input.histories = histories_;
    input.fleet = &fleet_;
    input.now = kNow;
    return input;
  }

 private:
  void fill(std::size_t at) {
    if (random_.below(4) == 0) held_[at] = static_cast<std::uint32_t>(random_.below(257));
    identities_[at] = random_.next();
    TargetLoad& load = loads_[at];
    load.requests = static_cast<std::uint32_t>(random_.below(20));
    load.prefilling = static_cast<std::uint32_t>(random_.below(load.requests + 1));
    load.prefill_tokens = load.prefilling * 2'000U;
    load.prompt_blocks = load.requests * 300U;
    load.backlog_seconds = 0.2 * load.prefilling;
    load.head_seconds = 0.2;
    load.head_started = kNow - 100'000'000;
    for (int i = 0; i < 64; ++i) load.prefill_scale.add(1.1, 64);
    load.prefill_measured_at = kNow - 1'000'000'000;
    load.prefill_seconds.add(0.4, 32);
    load.arrivals.add(kNow - 2'000'000'000, 32);
    load.arrivals.add(kNow - 1'000'000'000, 32);
    load.recent_requests.add(3, kNow - 1'000'000'000, 30);
    load.recent_tokens.add(9'000, kNow - 1'000'000'000, 30);
    load.reported = {.waiting = static_cast<std::uint32_t>(random_.below(5)),
                     .running = static_cast<std::uint32_t>(random_.below(20)),
                     .kv_usage = random_.uniform()};
    load.reported_at = kNow - 1'000'000'000;
    load.reported_times = {load.reported_at, load.reported_at, load.reported_at};
    load.reports = 1;
    for (std::uint32_t i = 0; i < load.requests; ++i) {
      histories_[at].requests.add(1'000, kNow - i * 1'000'000'000LL, 60);
    }
  }

  Random random_;
  std::vector<std::uint64_t> hashes_;
  std::vector<Slot> candidates_;
  std::vector<std::uint32_t> held_;
  std::vector<std::uint32_t> active_;
  std::vector<std::uint32_t> block_sizes_;
  std::vector<std::uint64_t> total_blocks_;
  std::vector<std::uint64_t> identities_;
  std::vector<std::uint32_t> turns_;
  std::vector<TargetLoad> loads_;
  std::vector<TargetHistory> histories_;
  FleetLoad fleet_;
};

void score_and_pick(benchmark::State& state, const std::string& name) {
  const auto policy = make_policy(name);
  const Fleet fleet(static_cast<std::size_t>(state.range(0)));
  const ScoreInput input = fleet.input();
  std::vector<double> costs(input.candidates.size());
  PickState pick_state(1);
  for (auto _ : state) {
    const Policy& decider = policy->decider(input);
    decider.score(input, costs);
    benchmark::DoNotOptimize(decider.pick(input, costs, pick_state));
  }
}

/// So many targets prefill and as many decode, eight a host and eight hosts a zone.
void choose_pair(benchmark::State& state) {
  const auto of_a_role = static_cast<std::uint32_t>(state.range(0));
  const Fleet fleet(2UL * of_a_role);
  std::vector<Slot> slots(2UL * of_a_role);
  std::iota(slots.begin(), slots.end(), 0U);
  std::vector<Place> places;
  for (const Slot slot : slots) {
    const std::uint32_t host = slot % of_a_role / 8;
    places.push_back({.zone = 1 + host / 8, .host = 1 + host});
  }
  const PairInput input{.request = fleet.input(),
                        .prefill = std::span(slots).first(of_a_role),
                        .decode = std::span(slots).last(of_a_role),
                        .places = places};
  PairChooser chooser;
  Random random(1);
  for (auto _ : state) benchmark::DoNotOptimize(chooser.choose(input, PairOptions{}, random));
}

const bool registered = [] {
  benchmark::RegisterBenchmark("choose_pair", &choose_pair)
      ->ArgName("targets_of_a_role")
      ->Arg(8)
      ->Arg(64)
      ->Arg(256);
  for (const std::string_view name : policy_names()) {
    benchmark::RegisterBenchmark(
        ("score_and_pick/" + std::string(name)).c_str(),
        [name](benchmark::State& state) { score_and_pick(state, std::string(name)); })
        ->ArgName("targets")
        ->Arg(8)
        ->Arg(64)
        ->Arg(512)
        ->Arg(4'096);
  }
  return true;
}();

}  // namespace
}  // namespace kvroute
