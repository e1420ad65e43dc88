#include "kvroute/policy/gate.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "chosen.h"
#include "kvroute/base/error.h"

namespace kvroute {
namespace {

using When = GateCondition::When;
using Load = GateCondition::Load;

bool holds(const GateCondition& condition, const ScoreInputBuilder& builder) {
  return condition.holds(builder.input());
}

TEST(Gate, OpensAtAnImbalanceOfTheNamedLoad) {
  ScoreInputBuilder builder(3);
  builder.loads[0].requests = 5;
  builder.loads[1].requests = 1;
  builder.loads[2].prefill_tokens = 700;
  for (Slot slot = 0; slot < 2; ++slot) {
    builder.report(slot, {.waiting = slot, .running = 2 * slot, .kv_usage = 0.5 + 0.25 * slot});
  }
  const auto opens_at = [&](Load load, double threshold) {
    return holds({.when = When::imbalanced, .threshold = threshold, .of = load}, builder);
  };
  EXPECT_TRUE(opens_at(Load::requests, 5));
  EXPECT_FALSE(opens_at(Load::requests, 5.5));
  EXPECT_TRUE(opens_at(Load::prefill_tokens, 700));
  EXPECT_FALSE(opens_at(Load::prefill_tokens, 701));
  EXPECT_TRUE(opens_at(Load::queue, 3));
  EXPECT_FALSE(opens_at(Load::queue, 4));
  EXPECT_TRUE(opens_at(Load::kv_usage, 0.25));
  EXPECT_FALSE(opens_at(Load::kv_usage, 0.26));
}

TEST(Gate, StaysClosedWhereNoLoadIsKnown) {
  const ScoreInputBuilder builder(3);
  for (const Load load : {Load::queue, Load::kv_usage}) {
    EXPECT_FALSE(holds({.when = When::imbalanced, .threshold = 0, .of = load}, builder));
  }
  EXPECT_FALSE(holds({.when = When::overloaded, .threshold = 0}, builder));
}

TEST(Gate, OpensBelowAShareOfThePrompt) {
  ScoreInputBuilder builder(2);
  builder.held = {5, 4};  // of 10 blocks
  EXPECT_FALSE(holds({.when = When::overlap_below, .threshold = 0.5}, builder));
  EXPECT_TRUE(holds({.when = When::overlap_below, .threshold = 0.51}, builder));
  builder.candidates = {1};
  EXPECT_TRUE(holds({.when = When::overlap_below, .threshold = 0.5}, builder));
}

TEST(Gate, OpensWhereACandidateUsesMoreOfItsCache) {
  ScoreInputBuilder builder(2);
  builder.report(0, {.waiting = {}, .running = {}, .kv_usage = 0.9});
  EXPECT_FALSE(holds({.when = When::overloaded, .threshold = 0.9}, builder));
  EXPECT_TRUE(holds({.when = When::overloaded, .threshold = 0.89}, builder));
  builder.candidates = {1};
  EXPECT_FALSE(holds({.when = When::overloaded, .threshold = 0.89}, builder));
}

TEST(Gate, OpensWithoutASession) {
  ScoreInputBuilder builder(1);
  EXPECT_TRUE(holds({.when = When::no_session}, builder));
  builder.session = 1;
  EXPECT_FALSE(holds({.when = When::no_session}, builder));
}

TEST(Gate, DefersToOneOfItsPolicies) {
  const auto gate = make_policy(
      {"gate", {{"when", {"no_session"}}, {"then", {"kvaware"}}, {"otherwise", {"session"}}}});
  ScoreInputBuilder builder(2);
  builder.held = {0, 3};
  EXPECT_EQ(decider_of(*gate, builder), "kvaware");
  EXPECT_EQ(builder.costs(*gate), (std::vector<double>{160, 160 - 48}));
  builder.session = 1;
  EXPECT_EQ(decider_of(*gate, builder), "session");
}

TEST(Gate, NestsInGates) {
  const PolicySpec::Parameters inner{{"name", {"gate"}},
                                     {"when", {"overlap_below"}},
                                     {"threshold", {0.5}},
                                     {"then", {"round_robin"}},
                                     {"otherwise", {"kvaware"}}};
  const auto gate = make_policy({"gate",
                                 {{"when", {"imbalanced"}},
                                  {"of", {"requests"}},
                                  {"threshold", {4.0}},
                                  {"then", {"qps"}},
                                  {"otherwise", {inner}}}});
  ScoreInputBuilder builder(2);
  builder.held = {0, 5};
  EXPECT_EQ(decider_of(*gate, builder), "kvaware");
  builder.held = {0, 4};
  EXPECT_EQ(decider_of(*gate, builder), "round_robin");
  builder.loads[0].requests = 4;
  EXPECT_EQ(decider_of(*gate, builder), "qps");
}

TEST(Gate, TakesSharesUpToOneAsTheirThresholds) {
  for (const std::string when : {"overlap_below", "overloaded"}) {
    const auto made = [&](PolicySpec::Value threshold) {
      return make_policy({"gate", {{"when", {when}}, {"threshold", std::move(threshold)}}});
    };
    EXPECT_NO_THROW((void)made({1.0})) << when;
    EXPECT_THROW((void)made({1.01}), InvalidArgument) << when;
    EXPECT_THROW((void)made({"inf"}), InvalidArgument) << when;
  }
  EXPECT_NO_THROW((void)make_policy({"gate", {{"threshold", {1e9}}}})) << "requests";
  EXPECT_NO_THROW((void)make_policy({"gate", {{"threshold", {"inf"}}}})) << "requests";
}

TEST(Gate, NeedsThePromptOnlyWhereSomethingLooksAtIt) {
  const auto needs = [](const std::string& when, const std::string& then) {
    PolicySpec spec{"gate", {{"when", {when}}, {"then", {then}}, {"otherwise", {"random"}}}};
    if (when != "no_session") spec.parameters.push_back({"threshold", {1.0}});
    return make_policy(spec)->needs_overlap();
  };
  EXPECT_FALSE(needs("no_session", "round_robin"));
  EXPECT_TRUE(needs("no_session", "kv_cost"));
  EXPECT_FALSE(needs("imbalanced", "round_robin"));
  EXPECT_TRUE(needs("overlap_below", "round_robin"));
}

TEST(Gate, IsClosedByDefault) {
  ScoreInputBuilder builder(2);
  builder.report(0, {.waiting = 1000, .running = 0, .kv_usage = {}});
  builder.report(1, {.waiting = 0, .running = 0, .kv_usage = {}});
  EXPECT_EQ(decider_of(*make_policy("gate"), builder), "kv_cost");
  EXPECT_EQ(decider_of(*make_policy({"gate", {{"threshold", {9.0}}}}), builder), "least_loaded");
}

TEST(Gate, SaysWhatIsMissingOrTooMuch) {
  for (const char* when : {"overlap_below", "overloaded"}) {
    EXPECT_EQ(refusal_of({"gate", {{"when", {when}}}}),
              "policy.threshold: expected a number, got none");
  }
  EXPECT_EQ(refusal_of({"gate", {{"when", {"no_session"}}}}), "");
  EXPECT_NE(refusal_of({"gate", {{"when", {"no_session"}}, {"threshold", {1.0}}}}), "");
  EXPECT_NE(
      refusal_of({"gate", {{"when", {"overloaded"}}, {"threshold", {0.9}}, {"of", {"queue"}}}}),
      "");
  EXPECT_NE(refusal_of({"gate", {{"when", {"always"}}}}), "");
}

}  // namespace
}  // namespace kvroute
