#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "kvroute/base/random.h"
#include "router_fixture.h"

namespace kvroute {
namespace {

// Everything at once, and afterwards nothing is left booked. Run under ThreadSanitizer.
TEST(RouterConcurrency, DecisionsBookingsAndMembershipDoNotDisturbEachOther) {
  RouterFixture fixture("kv_cost", 100);
  for (std::int64_t worker = 0; worker < 6; ++worker) fixture.add(worker);
  constexpr int kThreads = 4;
  constexpr int kRounds = 300;
  std::atomic<bool> stop{false};

  std::vector<std::thread> requests;
  for (std::uint64_t thread = 0; thread < kThreads; ++thread) {
    requests.emplace_back([&, thread] {
      Random random(thread);
      for (int round = 0; round < kRounds; ++round) {
        const auto tokens =
            tokens_from(static_cast<std::uint32_t>(random.below(4)), 16 + random.below(200));
        auto handle = fixture.router.reserve(request_for(tokens), "");
        (void)fixture.router.select(request_for(tokens));
        fixture.router.first_token(handle.id);
        fixture.router.progress(handle.id, random.below(100));
        (void)fixture.router.release(handle, std::span(tokens).first(5));
      }
    });
  }
  std::thread membership([&] {
    for (std::int64_t worker = 100; !stop; ++worker) {
      fixture.add(worker, 2);
      fixture.router.remove_worker(worker);
    }
  });
  std::thread watcher([&] {
    const auto tokens = tokens_from(0, 100);
    while (!stop) {
      (void)fixture.router.stats();
      (void)fixture.router.explain(request_for(tokens));
      (void)fixture.router.overlaps(request_for(tokens));
      for (const DecisionRecord& record : fixture.router.recent_decisions(100)) {
        EXPECT_FALSE(record.explanation.targets.empty());
      }
      fixture.router.update_load(std::int64_t{0}, 0, {.waiting = 1, .running = {}, .kv_usage = 0.5},
                                 fixture.router.stats().selections * 16);
      fixture.clock->advance(0.001);
    }
  });
  for (auto& thread : requests) thread.join();
  stop = true;
  membership.join();
  watcher.join();

  const RouterStats stats = fixture.router.stats();
  EXPECT_EQ(stats.reservations, 0U);
  for (const TargetStats& target : stats.targets) {
    EXPECT_EQ(target.load.requests, 0U);
    EXPECT_EQ(target.load.prefill_tokens, 0U);
    EXPECT_EQ(target.load.active_blocks(), 0U);
  }
}

// Filters, policy and membership change under decisions that use them all. Run under
// ThreadSanitizer.
TEST(RouterConcurrency, PolicyAndFiltersChangeBetweenDecisions) {
  RouterFixture fixture("kv_cost", 50);
  for (std::int64_t worker = 0; worker < 4; ++worker) fixture.add(worker);
  const auto allowed = fixture.router.allowed_set({{std::int64_t{0}, {}}, {std::int64_t{1}, {}}});
  std::atomic<bool> stop{false};
  std::vector<std::thread> requests;
  for (std::uint32_t thread = 0; thread < 3; ++thread) {
    requests.emplace_back([&, thread] {
      const auto tokens = tokens_from(thread, 100);
      Request request = request_for(tokens);
      request.allowed_set = thread == 0 ? allowed.get() : nullptr;
      request.name.lora = "sql";
      for (int round = 0; round < 200; ++round) {
        Features features;
        std::vector<double> costs;
        GivenCosts given;
        request.given = nullptr;
        if (thread == 2) {  // as a policy outside the core decides
          features = fixture.router.features(request);
          costs.assign(features.slots.size(), 1.0);
          given = {.features = &features, .costs = costs, .rule = {}};
          request.given = &given;
        }
        const auto handle = fixture.router.reserve(request, "");
        EXPECT_FALSE(fixture.router.select(request).rule.empty());
        const bool released = fixture.router.release(handle);
        // What went to the worker that comes and goes may have ended with it.
        EXPECT_TRUE(released || handle.selection.target.worker == WorkerName{100});
      }
    });
  }
  std::thread owner([&] {
    constexpr std::array kPolicies{"kv_cost", "round_robin", "standalone"};
    for (std::size_t turn = 0; !stop; ++turn) {
      fixture.router.set_policy(kPolicies[turn % kPolicies.size()]);
      fixture.router.set_draining(std::int64_t{1}, turn % 2 == 0);
      fixture.router.set_loras(std::int64_t{2}, {turn % 3 == 0 ? "sql" : "chat"});
      fixture.add(100);
      fixture.router.remove_worker(std::int64_t{100});
      (void)fixture.router.policy_spec();
    }
  });
  std::thread watcher([&] {
    const auto tokens = tokens_from(0, 100);
    while (!stop) {
      (void)fixture.router.explain(request_for(tokens));
      (void)fixture.router.recent_decisions(20);
    }
  });
  for (auto& thread : requests) thread.join();
  stop = true;
  owner.join();
  watcher.join();
  EXPECT_EQ(fixture.router.stats().reservations, 0U);
}

// Terms of `weighted` take a look at all targets for each of them: an explanation lasts some
// thousand times as long as a change. Were changes to wait for it, one would last as long during
// each.
TEST(RouterConcurrency, AnExplanationKeepsNoChangeWaiting) {
  using Time = std::chrono::steady_clock;
  RouterFixture fixture("weighted");
  for (std::int64_t worker = 0; worker < 64; ++worker) fixture.add(worker, 16);
  const auto tokens = tokens_from(0, 100);
  constexpr std::size_t kExplanations = 8;
  std::atomic<std::size_t> explanations{0};
  const auto begin = Time::now();
  std::thread watcher([&] {
    for (; explanations < kExplanations; ++explanations) {
      // With or without the worker that comes and goes.
      EXPECT_GE(fixture.router.explain(request_for(tokens)).targets.size(), 1'024U);
    }
  });
  std::vector<Time::duration> changes;
  while (explanations < kExplanations) {
    const auto change_begin = Time::now();
    fixture.router.set_policy("weighted");
    if (changes.size() % 100 == 0) {
      fixture.add(100);
      fixture.router.remove_worker(std::int64_t{100});
    }
    changes.push_back(Time::now() - change_begin);
  }
  watcher.join();
  const auto explanation = (Time::now() - begin) / kExplanations;
  const auto long_ones =
      std::ranges::count_if(changes, [&](auto change) { return change > explanation / 3; });
  EXPECT_LT(static_cast<std::size_t>(long_ones), kExplanations / 2);
}

// Pairs among all else, while the labels that place workers come and go. Run under
// ThreadSanitizer.
TEST(RouterConcurrency, PairsAreBookedAndReleasedWhole) {
  RouterFixture fixture("kv_cost", 50);
  for (std::int64_t worker = 0; worker < 6; ++worker) fixture.add(worker);
  const auto prefill = fixture.router.allowed_set({{std::int64_t{0}, {}}, {std::int64_t{1}, {}}});
  std::atomic<bool> stop{false};
  std::vector<std::thread> requests;
  for (std::uint64_t thread = 0; thread < 3; ++thread) {
    requests.emplace_back([&, thread] {
      Random random(thread);
      for (int round = 0; round < 200; ++round) {
        const auto tokens =
            tokens_from(static_cast<std::uint32_t>(random.below(4)), 16 + random.below(200));
        PairRequest request{.prefill = request_for(tokens), .decode = request_for(tokens)};
        request.prefill.allowed_set = prefill.get();
        const ReservedPair pair = fixture.router.reserve_pair(request, "");
        fixture.router.first_token(pair.prefill.id);
        EXPECT_TRUE(fixture.router.release(pair.prefill));
        const bool released = fixture.router.release(pair.decode, std::span(tokens).first(5));
        EXPECT_TRUE(released || pair.decode.selection.target.worker == WorkerName{100});
        (void)fixture.router.release(fixture.router.reserve(request.decode, ""));
      }
    });
  }
  std::thread owner([&] {
    for (std::size_t turn = 0; !stop; ++turn) {
      fixture.router.set_pair_options({.decode_steps = turn % 2 == 0 ? 1.0 : 100.0});
      (void)fixture.router.pair_options();
      fixture.router.add_worker({.name = std::int64_t{100},
                                 .block_size = {},
                                 .kv_events = {},
                                 .kv_replay = {},
                                 .load_events = {},
                                 .total_blocks = {},
                                 .labels = {{"host", std::to_string(turn % 3)}}});
      fixture.router.remove_worker(std::int64_t{100});
    }
  });
  std::thread watcher([&] {
    const auto tokens = tokens_from(0, 100);
    while (!stop) {
      (void)fixture.router.explain_pair(
          {.prefill = request_for(tokens), .decode = request_for(tokens)});
      for (const DecisionRecord& record : fixture.router.recent_decisions(20)) {
        EXPECT_FALSE(record.explanation.targets.empty());
      }
    }
  });
  for (auto& thread : requests) thread.join();
  stop = true;
  owner.join();
  watcher.join();
  const RouterStats stats = fixture.router.stats();
  EXPECT_EQ(stats.reservations, 0U);
  for (const TargetStats& target : stats.targets) EXPECT_EQ(target.load.active_blocks(), 0U);
}

TEST(RouterConcurrency, SimultaneousPairsSeeEachOther) {
  RouterFixture fixture;
  for (std::int64_t worker = 0; worker < 8; ++worker) fixture.add(worker);
  const auto workers = [](std::int64_t first) {
    return std::vector<WorkerRef>{{first, {}}, {first + 1, {}}, {first + 2, {}}, {first + 3, {}}};
  };
  const auto prefill = workers(0);
  const auto decode = workers(4);
  std::vector<std::optional<ReservedPair>> pairs(8);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    threads.emplace_back([&, i] {
      const auto tokens = tokens_from(static_cast<std::uint32_t>(100'000 * i), 16'000);
      pairs[i] = fixture.router.reserve_pair(
          {.prefill = request_for(tokens, &prefill), .decode = request_for(tokens, &decode)}, "");
    });
  }
  for (auto& thread : threads) thread.join();
  for (const TargetStats& target : fixture.router.stats().targets) {
    EXPECT_EQ(target.load.requests, 2U);
  }
}

TEST(RouterConcurrency, SimultaneousReservationsSeeEachOther) {
  RouterFixture fixture;
  for (std::int64_t worker = 0; worker < 4; ++worker) fixture.add(worker);
  std::vector<std::optional<ReservationHandle>> handles(8);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < handles.size(); ++i) {
    threads.emplace_back([&, i] {
      const auto tokens = tokens_from(static_cast<std::uint32_t>(1000 * i), 160);
      handles[i] = fixture.router.reserve(request_for(tokens), "");
    });
  }
  for (auto& thread : threads) thread.join();
  // Eight unlike prompts of one length over four workers: two for each, whatever the order.
  for (const TargetStats& target : fixture.router.stats().targets) {
    EXPECT_EQ(target.load.requests, 2U);
  }
}

}  // namespace
}  // namespace kvroute
