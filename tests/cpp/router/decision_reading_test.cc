#include "router/decision_reading.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "explanation_figures.h"
#include "kvroute/base/random.h"
#include "kvroute/load/load_model.h"
#include "router/explaining.h"

namespace kvroute::detail {
namespace {

constexpr std::size_t kKept = 60;
constexpr Slot kTargets = 200;  // four steps of a reading

/// Targets whose loads change at random, and a log of decisions on them.
class LoggedFleet {
 public:
  explicit LoggedFleet(const char* policy, std::size_t most_bytes = DecisionLog::kMostBytes)
      : policy_(make_policy(policy)), log_(kKept, most_bytes) {
    for (Slot slot = 0; slot < kTargets; ++slot) add_target();
  }

  void add_target() {
    const WorkerName name = static_cast<std::int64_t>(targets_.slot_count());
    auto slots = targets_.take_slots(name, 1, 16);
    load_.add_target(slots.front(), now_);
    held_.push_back(0);
    targets_.list({.name = name,
                   .block_size = 16,
                   .slots = std::move(slots),
                   .total_blocks = {},
                   .labels = {}});
  }

  void decide() {
    change();
    ScoreInput input;
    input.num_tokens = 1'000;
    input.block_size = 16;
    held_[random_.below(held_.size())] = static_cast<std::uint32_t>(random_.below(40));
    exclude_some();
    input.candidates = candidates_;
    input.held = held_;
    input.active = held_;
    input.block_sizes = targets_.block_sizes();
    input.total_blocks = targets_.total_blocks();
    input.identities = targets_.identities();
    input.turns = targets_.turns();
    input.loads = load_.loads();
    input.histories = load_.histories();
    input.fleet = &load_.fleet();
    input.now = now_;
    add_rare(input);
    const bool is_given = random_.below(5) == 0;
    for (double& cost : given_) cost = random_.uniform();
    const auto given = std::span<const double>(given_).first(is_given ? candidates_.size() : 0);
    expected_.push_back(
        figures_of(explanation_of(*policy_, input, excluded_, targets_.targets(), given)));
    log_.record(input, load_.revisions(), policy_, roster_.of(targets_),
                {.chosen = 0,
                 .request_id = std::to_string(expected_.size()),
                 .excluded = excluded_,
                 .given = given});
  }

  void change_membership() { targets_.learn_total_blocks(0, 100); }

  [[nodiscard]] const DecisionLog& log() const { return log_; }
  [[nodiscard]] const std::vector<std::vector<double>>& expected() const { return expected_; }

 private:
  // Nobody, or about half of the targets, for different reasons.
  void exclude_some() {
    candidates_.assign(targets_.listed().begin(), targets_.listed().end());
    given_.resize(candidates_.size());
    excluded_.clear();
    if (random_.below(3) != 0) return;
    candidates_.clear();
    for (const Slot slot : targets_.listed()) {
      if (random_.below(2) == 0 || slot == 0) {
        candidates_.push_back(slot);
      } else {
        excluded_.emplace_back(slot, random_.below(2) == 0 ? Exclusion::allowed : Exclusion::lora);
      }
    }
  }

  // Each for itself in one of five decisions.
  void add_rare(ScoreInput& input) {
    const auto happens = [&] { return random_.below(5) == 0; };
    if (happens()) {
      lower_ = held_;
      for (auto& blocks : lower_) blocks += static_cast<std::uint32_t>(random_.below(20));
      input.depths = {held_, lower_, lower_, lower_};
    }
    preferences_.resize(held_.size());
    for (double& preference : preferences_) preference = random_.uniform();
    if (happens()) input.preferences = preferences_;
    if (happens()) input.overrides.overlap_credit = random_.uniform();
    if (happens()) input.overrides.prefill_scale = random_.uniform();
    if (happens()) input.overrides.assume_kv_reuse = false;
    if (happens()) input.overrides.track_prefill_tokens = false;
  }

  void change() {
    now_ += static_cast<Nanoseconds>(random_.below(2'000'000'000));
    const auto slot = static_cast<Slot>(random_.below(held_.size()));
    load_.note_pick(slot, random_.below(2'000), now_);
    (void)load_.book({.slot = slot,
                      .request_id = std::to_string(now_),
                      .prompt_tokens = 1'000,
                      .prefill_tokens = random_.below(1'000),
                      .shared_tokens = 100,
                      .new_blocks = random_.below(50),
                      .block_size = 16,
                      .expected_output_tokens = 90,
                      .place = 0},
                     now_);
    load_.report(static_cast<Slot>(random_.below(held_.size())),
                 {.waiting = static_cast<std::uint32_t>(random_.below(9)),
                  .running = {},
                  .kv_usage = random_.uniform()},
                 now_);
  }

  std::shared_ptr<const Policy> policy_;
  Random random_{5};
  Nanoseconds now_ = 0;
  TargetTable targets_;
  LatestRoster roster_;
  LoadModel load_{LoadOptions{}};
  std::vector<std::uint32_t> held_;
  std::vector<std::uint32_t> lower_;
  std::vector<double> preferences_;
  std::vector<double> given_;
  std::vector<Slot> candidates_;
  std::vector<std::pair<Slot, Exclusion>> excluded_;
  DecisionLog log_;
  std::vector<std::vector<double>> expected_;
};

class DecisionReadingOf : public testing::TestWithParam<const char*> {};

TEST_P(DecisionReadingOf, TellsWhatDecisionsRestedOnWhileOthersAreMade) {
  LoggedFleet fleet(GetParam());
  Random random(11);
  constexpr int kGrows = 20;
  for (int round = 0; round < 40; ++round) {
    for (std::uint64_t i = random.below(40); i > 0; --i) fleet.decide();
    const std::size_t end = fleet.expected().size();
    const std::size_t limit = 1 + random.below(kKept + 9);
    DecisionReading reading(limit);
    std::size_t steps = 1;
    while (!reading.take(fleet.log())) {
      ++steps;
      if (round >= kGrows && round % 10 == 3) fleet.add_target();
      for (std::uint64_t i = random.below(4); i > 0; --i) fleet.decide();
    }
    EXPECT_EQ(steps > 3, end > 0);
    for (std::uint64_t i = random.below(40); i > 0; --i) fleet.decide();
    const auto records = reading.records();
    const std::size_t most = std::min({limit, kKept, end});
    ASSERT_LE(records.size(), most);
    // Some were dropped for those between the steps.
    ASSERT_GE(records.size() + 16, most);
    for (std::size_t i = 0; i < records.size(); ++i) {
      const std::size_t number = end - records.size() + i;
      ASSERT_EQ(records[i].request_id, std::to_string(number + 1));
      ASSERT_EQ(figures_of(records[i].explanation), fleet.expected()[number]) << round << ' ' << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, DecisionReadingOf,
                         testing::Values("kv_cost", "kv_delay", "preble"));

TEST(DecisionReading, OfALogThatHasGoneOnMeanwhileTellsNothingWrong) {
  LoggedFleet fleet("kv_delay");
  for (std::size_t i = 0; i < 2 * kKept; ++i) fleet.decide();
  DecisionReading reading(kKept);
  ASSERT_FALSE(reading.take(fleet.log()));
  for (std::size_t i = 0; i < 3 * kKept; ++i) fleet.decide();
  while (!reading.take(fleet.log())) fleet.decide();
  EXPECT_TRUE(reading.records().empty());
}

// How many decisions a log keeps in so many bytes.
std::size_t kept_within(std::size_t most_bytes, bool membership_changes) {
  LoggedFleet fleet("kv_cost", most_bytes);
  for (std::size_t i = 0; i < 3 * kKept; ++i) {
    if (membership_changes) fleet.change_membership();
    fleet.decide();
    EXPECT_LE(fleet.log().bytes(), most_bytes);
  }
  DecisionReading reading(kKept);
  while (!reading.take(fleet.log())) {
  }
  const auto records = reading.records();
  EXPECT_EQ(figures_of(records.back().explanation), fleet.expected().back());
  return records.size();
}

TEST(DecisionLog, ReachesLessFarBackWhereItsDecisionsWouldTakeTooManyBytes) {
  constexpr std::size_t kMostBytes = 600'000;
  const std::size_t kept = kept_within(kMostBytes, false);
  EXPECT_GE(kept, kKept / 4);
  EXPECT_LT(kept, kKept);
  // Then each decision has a roster of its own.
  const std::size_t kept_with_rosters = kept_within(kMostBytes, true);
  EXPECT_GE(kept_with_rosters, 2U);
  EXPECT_LT(kept_with_rosters, kept * 2 / 3);
}

TEST(DecisionReading, OfAnEmptyLogIsEmpty) {
  DecisionReading reading(5);
  EXPECT_TRUE(reading.take(DecisionLog(3)));
  EXPECT_TRUE(reading.records().empty());
}

}  // namespace
}  // namespace kvroute::detail
