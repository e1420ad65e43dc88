#include "kvroute/policy/pair_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "counted_allocations.h"
#include "kvroute/base/error.h"
#include "score_input_builder.h"

namespace kvroute {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
using Pair = std::pair<Slot, Slot>;

/// 160 tokens take 1 s to compute; times of the ways are easy to tell apart.
struct Pairs {
  explicit Pairs(std::size_t targets) : fleet(targets), places(targets) {
    fleet.fleet.prefill = {.tokens_per_second = 160, .attention_seconds = 0};
    fleet.now = 1'000'000'000'000;
  }

  [[nodiscard]] PairInput input() const {
    return {.request = fleet.input(), .prefill = prefill, .decode = decode, .places = places};
  }
  [[nodiscard]] PairPick pick(std::uint64_t seed = 7) {
    Random random(seed);
    return chooser.choose(input(), options, random);
  }
  [[nodiscard]] Pair chosen(Random& random) {
    const PairPick pick = chooser.choose(input(), options, random);
    return {prefill[pick.prefill], decode[pick.decode]};
  }
  [[nodiscard]] Pair chosen(std::uint64_t seed = 7) {
    Random random(seed);
    return chosen(random);
  }
  void queue(Slot slot, double seconds) {
    fleet.loads[slot].prefilling = 1;
    fleet.loads[slot].backlog_seconds = seconds;
    fleet.loads[slot].head_started = fleet.now;
  }

  ScoreInputBuilder fleet;
  std::vector<Place> places;
  std::vector<Slot> prefill;
  std::vector<Slot> decode;
  PairOptions options{
      .same_host = 0.001, .same_zone = 0.01, .elsewhere = 0.1, .step = 0.0001, .decode_steps = 10};
  PairChooser chooser;
};

TEST(PairChoice, PredictsQueuePrefillTransferAndDecode) {
  Pairs pairs(3);
  pairs.prefill = {0};
  pairs.decode = {1, 2};
  pairs.places = {{1, 1}, {1, 1}, {2, 2}};
  pairs.queue(0, 3);
  pairs.fleet.held = {4, 5, 0};
  pairs.fleet.active = {0, 2, 0};
  pairs.fleet.loads[1].prompt_blocks = 7;
  const PairSeconds near = pairs.pick().costs.of(pairs.input(), 0, 1);
  EXPECT_DOUBLE_EQ(near.queue, 3);
  EXPECT_DOUBLE_EQ(near.prefill, 96.0 / 160);
  EXPECT_DOUBLE_EQ(near.transfer, 80 * 0.001) << "what the decode target holds need not come";
  EXPECT_DOUBLE_EQ(near.decode, 10 * 0.0001 * 16 * (7 + 8));
  EXPECT_DOUBLE_EQ(pairs.pick().costs.of(pairs.input(), 0, 2).transfer, 160 * 0.1);
  EXPECT_EQ(pairs.chosen(), Pair(0, 1));
}

TEST(PairChoice, WeighsTheQueueAgainstTheWay) {
  Pairs pairs(4);
  pairs.prefill = {0, 1};
  pairs.decode = {2, 3};
  pairs.places = {{1, 1}, {2, 2}, {1, 1}, {2, 2}};
  pairs.fleet.held = {10, 0, 0, 0};
  pairs.fleet.loads[2].prompt_blocks = 50;
  EXPECT_EQ(pairs.chosen(), Pair(0, 2)) << "the prefix brings its host along";
  pairs.queue(0, 2);
  EXPECT_EQ(pairs.chosen(), Pair(1, 3));
  pairs.fleet.total_blocks[3] = 5;
  EXPECT_EQ(pairs.chosen(), Pair(0, 2)) << "no room there";
}

TEST(PairChoice, ATargetHandsOverToItselfInNoTime) {
  Pairs pairs(2);
  pairs.prefill = {0, 1};
  pairs.decode = {0, 1};
  pairs.queue(0, 0.5);
  EXPECT_EQ(pairs.chosen(), Pair(1, 1));
  EXPECT_EQ(pairs.pick().costs.of(pairs.input(), 1, 1).transfer, 0);
}

TEST(PairChoice, APlaceThatIsNotKnownIsAsFarAsTheMeanOfTheKnownPairs) {
  Pairs pairs(5);
  pairs.prefill = {0, 1, 2};
  pairs.decode = {3, 4};
  const auto rate = [&](Slot from, Slot to) {
    return pairs.pick().costs.seconds_per_token(pairs.input(), from, to);
  };
  EXPECT_EQ(rate(0, 3), 0.01) << "nobody says anything: all are in one zone";
  pairs.places = {{1, 1}, {2, 0}, {}, {1, 1}, {1, 2}};
  EXPECT_EQ(rate(0, 3), 0.001);
  EXPECT_EQ(rate(0, 4), 0.01);
  EXPECT_EQ(rate(1, 3), 0.1);
  const double mean = (0.001 + 0.01 + 0.1 + 0.1) / 4;
  EXPECT_DOUBLE_EQ(rate(2, 3), mean);
  EXPECT_DOUBLE_EQ(rate(2, 4), mean);
  pairs.places[4] = {};
  EXPECT_DOUBLE_EQ(rate(0, 4), (0.001 + 0.1) / 2);
}

TEST(PairChoice, RoomIsHeededAsLongAsSomebodyHasSome) {
  Pairs pairs(3);
  pairs.prefill = {0};
  pairs.decode = {1, 2};
  pairs.fleet.total_blocks = {1, 11, 12};
  pairs.fleet.expected_output_tokens = 32;  // 10 blocks and 2
  const auto decode = [&](Slot slot) {
    return pairs.pick().costs.of(pairs.input(), 0, slot).decode;
  };
  EXPECT_EQ(decode(1), kInfinity);
  EXPECT_LT(decode(2), kInfinity);
  EXPECT_EQ(pairs.chosen(), Pair(0, 2));
  pairs.fleet.loads[2].expected_output_blocks = 1;
  EXPECT_LT(decode(1), kInfinity) << "nobody has";
}

TEST(PairChoice, SpreadsWhatIsEqualEvenly) {
  Pairs pairs(6);
  pairs.prefill = {0, 1, 2};
  pairs.decode = {3, 4, 5};
  pairs.queue(2, 1);
  pairs.queue(1, 0.04);  // within 5 % of a second
  Random random(5);
  std::map<Pair, int> times;
  for (int i = 0; i < 6'000; ++i) ++times[pairs.chosen(random)];
  EXPECT_EQ(times.size(), 6U);
  for (const auto& [pair, count] : times) EXPECT_NEAR(count, 1'000, 120) << pair.first;
  pairs.fleet.loads[0].recent_requests.add(1, pairs.fleet.now, 30);
  pairs.fleet.loads[3].output_blocks = pairs.fleet.loads[5].output_blocks = 1;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(pairs.chosen(random), Pair(1, 4));
}

// A little more prefill is no reason to go far: it is the way that predictions know.
TEST(PairChoice, EqualPrefillsDoNotHideAFartherWay) {
  Pairs pairs(3);
  pairs.prefill = {0, 1};
  pairs.decode = {2};
  pairs.places = {{1, 1}, {1, 2}, {1, 1}};
  pairs.queue(0, 60);
  pairs.queue(1, 60);
  pairs.fleet.loads[0].recent_requests.add(9, pairs.fleet.now, 30);
  EXPECT_EQ(pairs.chosen(), Pair(0, 2));
}

/// A fleet of which anything may be so.
Pairs anything(Random& random) {
  const std::size_t targets = 1 + random.below(12);
  Pairs pairs(targets);
  for (Slot slot = 0; slot < targets; ++slot) {
    const std::uint64_t role = random.below(4);
    if (role != 1) pairs.prefill.push_back(slot);
    if (role != 0) pairs.decode.push_back(slot);
    pairs.fleet.held[slot] = static_cast<std::uint32_t>(random.below(11));
    pairs.fleet.active[slot] = static_cast<std::uint32_t>(random.below(11));
    pairs.fleet.total_blocks[slot] = random.below(2) * random.below(200);
    pairs.fleet.loads[slot].prompt_blocks = random.below(4) * 40;
    if (random.below(2) == 0) pairs.queue(slot, static_cast<double>(random.below(5)) / 4);
    pairs.fleet.loads[slot].recent_requests.add(static_cast<double>(random.below(3)),
                                                pairs.fleet.now, 30);
    const auto zone = static_cast<std::uint32_t>(random.below(3));
    const auto host = static_cast<std::uint32_t>(random.below(3));
    if (zone > 0) pairs.places[slot] = {zone, host == 0 ? 0 : 2 * zone + host};
  }
  if (pairs.prefill.empty()) pairs.prefill.push_back(0);
  if (pairs.decode.empty()) pairs.decode.push_back(0);
  return pairs;
}

// Of all pairs, one by one, those that are equal to the best; and of those the one it takes.
TEST(PairChoice, TakesWhatTryingEveryPairWouldTake) {
  Random random(3);
  for (int round = 0; round < 3'000; ++round) {
    Pairs pairs = anything(random);
    const PairInput input = pairs.input();
    const auto [prefill, decode] = pairs.chosen();
    const PairCosts costs = pairs.pick().costs;
    const auto halves = [&](Slot p, Slot d) {
      const PairSeconds seconds = costs.of(input, p, d);
      return std::pair(seconds.queue + seconds.prefill, seconds.transfer + seconds.decode);
    };
    double least = kInfinity;
    for (const Slot p : pairs.prefill) {
      for (const Slot d : pairs.decode) {
        least = std::min(least, halves(p, d).first + halves(p, d).second);
      }
    }
    const auto equals_best = [&](Slot p, Slot d) {
      for (const Slot p0 : pairs.prefill) {
        for (const Slot d0 : pairs.decode) {
          const auto best = halves(p0, d0);
          if (best.first + best.second > least + 1e-12) continue;
          const auto mine = halves(p, d);
          if (mine.first <= best.first * 1.05 + 0.001 + 1e-12 &&
              mine.second <= best.second * 1.05 + 0.001 + 1e-12) {
            return true;
          }
        }
      }
      return false;
    };
    ASSERT_TRUE(equals_best(prefill, decode)) << round;
    const auto seconds = costs.of(input, prefill, decode).total();
    ASSERT_LE(seconds, least * 1.05 + 0.002 + 1e-9);
  }
}

TEST(PairChoice, AllocatesNothingForAsManyTargetsAsBefore) {
  Random random(3);
  Pairs pairs = anything(random);
  (void)pairs.chosen(random);
  const PairInput input = pairs.input();
  const std::size_t before = testing::allocations;
  for (int i = 0; i < 100; ++i) (void)pairs.chooser.choose(input, pairs.options, random);
  EXPECT_EQ(testing::allocations, before);
}

TEST(PairChoice, RefusesRatesThatAreNone) {
  EXPECT_NO_THROW(PairOptions{}.check());
  EXPECT_THROW(PairOptions{.same_host = -1}.check(), InvalidArgument);
  EXPECT_THROW((PairOptions{.same_host = 1, .same_zone = 0.5, .elsewhere = 2}.check()),
               InvalidArgument);
  EXPECT_THROW(PairOptions{.elsewhere = 0}.check(), InvalidArgument);
  EXPECT_THROW(PairOptions{.step = kInfinity}.check(), InvalidArgument);
  EXPECT_THROW(PairOptions{.decode_steps = std::numeric_limits<double>::quiet_NaN()}.check(),
               InvalidArgument);
}

}  // namespace
}  // namespace kvroute
