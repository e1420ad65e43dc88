// Snapshots that carry a right checksum and were never written by a tree: what each guard refuses.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "forged_snapshot.h"
#include "kvroute/base/error.h"
#include "kvroute/index/prefix_tree.h"

namespace kvroute::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr std::size_t kDevice = 0;
constexpr std::size_t kHost = 1;
constexpr std::uint32_t kLanes = kMaxTargets * kTiers;

constexpr std::uint32_t lane(std::uint32_t slot, std::size_t tier) {
  return slot * static_cast<std::uint32_t>(kTiers) + static_cast<std::uint32_t>(tier);
}

/// Something of everything, as a tree would write it: two nodes of one run, the first of four
/// blocks, of which the third has no shared name, and the second of two.
ForgedSnapshot honest() {
  ForgedSnapshot snapshot;
  snapshot.slots = 6;
  auto& run = snapshot.runs.emplace_back();
  run.labels = {11, 12, 13, 14, 15, 16};
  run.names = {21, 22, 0, 24, 25, 26};
  run.nodes = {{.length = 4}, {.length = 2}};
  run.nodes[0].holders[kDevice] = {{0}, {1}, {2, {{0, 2}}}, {3, {{0, 1}, {2, 1}}}, {4, {{1, 3}}}};
  run.nodes[0].holders[kHost] = {{1}};
  run.nodes[0].predictions = {{4, 1, 2, 0, 5}, {4, 3, 1, 1, 9}};
  run.nodes[1].holders[kDevice] = {{0}};
  run.rows = {{lane(0, kDevice), {{1, 41}, {2, 42}}},
              {lane(1, kDevice), {{2, 43}}},
              {lane(1, kHost), {{2, 44}}}};
  snapshot.odd = {{lane(0, kDevice), {{51, 1, 3}}, {{51, 2}, {42, 1}}}};
  snapshot.chains = {{5, 2, {61, 62}, {71, 72}, {0, 1}}};
  return snapshot;
}

using Change = std::function<void(ForgedSnapshot&)>;

void expect_refused(const char* message, const Change& change) {
  SCOPED_TRACE(message);
  ForgedSnapshot snapshot = honest();
  change(snapshot);
  PrefixTree tree;
  EXPECT_THAT([&] { tree.restore(snapshot.bytes(), 0); },
              ThrowsMessage<InvalidArgument>(HasSubstr(message)));
  EXPECT_EQ(tree.audit(), std::nullopt);
  EXPECT_EQ(tree.stats().blocks, 0U);
}

ForgedSnapshot::Node& first(ForgedSnapshot& snapshot) { return snapshot.runs[0].nodes[0]; }

TEST(SnapshotGuards, LetPassWhatATreeCouldHaveWritten) {
  PrefixTree tree;
  tree.restore(honest().bytes(), 0);
  EXPECT_EQ(tree.audit(), std::nullopt);
  const IndexStats stats = tree.stats();
  EXPECT_EQ(stats.blocks, 6U);
  EXPECT_EQ(stats.held_exact, 4U + 4 + 2 + 2 + 2);
  EXPECT_EQ(stats.held_lower, 4U);
  EXPECT_EQ(stats.held_predicted, 3U);
  EXPECT_EQ(stats.waiting, 1U);
  PrefixTree again;
  again.restore(tree.snapshot(0), 0);
  EXPECT_EQ(again.audit(), std::nullopt);
}

// Pins had kept it when the snapshot was taken.
TEST(SnapshotGuards, DropWhatNobodyHolds) {
  ForgedSnapshot snapshot = honest();
  snapshot.runs[0].nodes[1].holders[kDevice] = {{0, {{0, 1}}}};
  auto& other = snapshot.runs.emplace_back();
  other.parent = 1;
  other.labels = {17, 18};
  other.names = {27, 0};
  other.nodes = {{.length = 2}};
  PrefixTree tree;
  tree.restore(snapshot.bytes(), 0);
  EXPECT_EQ(tree.stats().blocks, 5U);
  EXPECT_EQ(tree.audit(), std::nullopt);
}

TEST(SnapshotGuards, RefuseRunsThatCannotBe) {
  expect_refused("each name once", [](auto& s) { s.runs[0].names[1] = s.runs[0].names[0]; });
  expect_refused("each block once", [](auto& s) {
    auto other = s.runs[0];
    other.names.assign(6, 0);
    other.rows.clear();
    other.nodes = {{.length = 6}};
    s.runs.push_back(other);
  });
  expect_refused("nodes of at least one block", [](auto& s) {
    s.runs[0].nodes.insert(s.runs[0].nodes.begin(), ForgedSnapshot::Node{});
  });
  expect_refused("runs of at least one block", [](auto& s) { s.runs.emplace_back(); });
  expect_refused("a node of at most 0", [](auto& s) { s.runs[0].parent = 1; });
  expect_refused("hashes", [](auto& s) { s.runs[0].nodes[1].length = 1'000; });
  expect_refused("slots of at most", [](auto& s) { s.slots = kMaxTargets + 1; });
  expect_refused("its end", [](auto& s) { s.further = "x"; });
}

TEST(SnapshotGuards, RefuseHoldersThatCannotBe) {
  expect_refused("each holder of a node once", [](auto& s) {
    first(s).holders[kDevice].push_back({1, {{0, 2}}});
    std::swap(first(s).holders[kDevice][2], first(s).holders[kDevice][5]);
  });
  expect_refused("holders in order", [](auto& s) {
    std::swap(first(s).holders[kDevice][0].slot, first(s).holders[kDevice][1].slot);
  });
  expect_refused("holders in order", [](auto& s) {
    std::swap(first(s).holders[kDevice][1], first(s).holders[kDevice][2]);
  });
  expect_refused("holders in order", [](auto& s) {
    std::swap(first(s).holders[kDevice][2], first(s).holders[kDevice][3]);
  });
  expect_refused("ranges of at least one block",
                 [](auto& s) { first(s).holders[kDevice][2].ranges[0].second = 0; });
  expect_refused("a gap of at most",
                 [](auto& s) { first(s).holders[kDevice][4].ranges[0].first = 5; });
  expect_refused("blocks of at most",
                 [](auto& s) { first(s).holders[kDevice][4].ranges[0].second = 4; });
  expect_refused("ranges of at most",
                 [](auto& s) { first(s).holders[kDevice][4].ranges.resize(5, {0, 1}); });
  expect_refused("a slot of at most",
                 [](auto& s) { first(s).holders[kHost][0].slot = kMaxTargets; });
}

TEST(SnapshotGuards, RefusePredictionsThatCannotBe) {
  expect_refused("predictions in order",
                 [](auto& s) { std::swap(first(s).predictions[0], first(s).predictions[1]); });
  expect_refused("predictions in order", [](auto& s) { first(s).predictions[1].begin = 2; });
  expect_refused("predictions in order",
                 [](auto& s) { first(s).predictions.push_back({0, 0, 1, 0, 5}); });
  expect_refused("predictions of blocks that are held",
                 [](auto& s) { first(s).predictions[0].begin = 0; });
  expect_refused("predictions of blocks that are held",
                 [](auto& s) { first(s).predictions.push_back({5, 0, 1, 0, 5}); });
  expect_refused("predictions with a time", [](auto& s) { first(s).predictions[0].length = 0; });
  expect_refused("predictions with a time", [](auto& s) { first(s).predictions[1].time = -1; });
  expect_refused("predictions with a time",
                 [](auto& s) { first(s).predictions[0].time = std::int64_t{1} << 61; });
  expect_refused("predictions with a time",
                 [](auto& s) { first(s).predictions[0].time = -(std::int64_t{1} << 61) - 1; });
  expect_refused("a kind of time of at most", [](auto& s) { first(s).predictions[0].kind = 2; });
  expect_refused("blocks of at most", [](auto& s) { first(s).predictions[1].length = 2; });
}

TEST(SnapshotGuards, RefuseOwnNamesThatCannotBe) {
  const auto rows = [](ForgedSnapshot& s) -> auto& { return s.runs[0].rows; };
  const char* const own_name = "one own name for a block that is held";
  expect_refused(own_name, [&](auto& s) { std::swap(rows(s)[0].names[0], rows(s)[0].names[1]); });
  expect_refused(own_name, [&](auto& s) { rows(s)[0].names[1].first = 1; });
  expect_refused(own_name, [&](auto& s) { rows(s)[0].names[1].second = 0; });
  expect_refused(own_name, [&](auto& s) { rows(s).push_back({lane(2, kDevice), {{3, 45}}}); });
  expect_refused(own_name, [&](auto& s) { rows(s).push_back({lane(4, kDevice), {{1, 45}}}); });
  expect_refused("rows of names in order", [&](auto& s) { std::swap(rows(s)[0], rows(s)[1]); });
  expect_refused("rows of names in order", [&](auto& s) {
    rows(s).insert(rows(s).begin() + 1, {lane(0, kDevice), {{3, 45}}});
  });
  expect_refused("a block of at most", [&](auto& s) { rows(s)[1].names[0].first = 6; });
  expect_refused("a lane of at most", [&](auto& s) { rows(s)[2].lane = kLanes; });
}

TEST(SnapshotGuards, RefuseBlocksWithoutANameOfTheirOwn) {
  const auto rows = [](ForgedSnapshot& s) -> auto& { return s.runs[0].rows; };
  const char* const none = "a name of its own for each block that is held, got none";
  const char* const two = "a name of its own for each block that is held, got one of two blocks";
  expect_refused(none, [&](auto& s) { rows(s).pop_back(); });
  expect_refused(none, [&](auto& s) { rows(s)[1].names[0].first = 1; });
  expect_refused(none, [&](auto& s) { s.runs[0].names[4] = 0; });
  expect_refused(none, [&](auto& s) { first(s).predictions.erase(first(s).predictions.begin()); });
  expect_refused(two, [&](auto& s) { rows(s)[0].names[0].second = 42; });
  expect_refused(two, [&](auto& s) { rows(s)[0].names[0].second = 24; });
  expect_refused(two, [&](auto& s) { rows(s)[0].names[0].second = 25; });
}

TEST(SnapshotGuards, RefuseOddNamesThatCannotBe) {
  const auto alias = [](ForgedSnapshot& s) -> auto& { return s.odd[0].aliases[0]; };
  const auto copies = [](ForgedSnapshot& s) -> auto& { return s.odd[0].copies[0]; };
  const char* const aliases = "aliases of blocks that are held";
  expect_refused(aliases, [&](auto& s) { alias(s).name = 0; });
  expect_refused(aliases, [&](auto& s) { alias(s).name = 42; });
  expect_refused(aliases, [&](auto& s) { alias(s).name = 25; });
  expect_refused(aliases, [&](auto& s) { alias(s).node = 0; });
  expect_refused(aliases, [&](auto& s) { alias(s).at = 4; });
  expect_refused(aliases, [&](auto& s) { s.odd.push_back({lane(2, kDevice), {{52, 1, 2}}, {}}); });
  expect_refused(aliases, [&](auto& s) { s.odd.push_back({lane(4, kDevice), {{52, 1, 1}}, {}}); });
  expect_refused(aliases, [&](auto& s) { s.odd[0].aliases.push_back({51, 1, 0}); });
  expect_refused("a node of at most", [&](auto& s) { alias(s).node = 3; });
  expect_refused("copies of blocks that are held", [&](auto& s) { copies(s).first = 22; });
  expect_refused("copies of blocks that are held", [&](auto& s) { copies(s).second = 0; });
  expect_refused("a lane of at most", [&](auto& s) { s.odd[0].lane = kLanes; });
}

TEST(SnapshotGuards, RefuseChainsThatCannotBe) {
  expect_refused("chains whose blocks have names", [](auto& s) { s.chains[0].names[1] = 0; });
  expect_refused("a slot of at most", [](auto& s) { s.chains[0].slot = kMaxTargets; });
  expect_refused("a tier of at most", [](auto& s) { s.chains[0].tier = kTiers; });
  expect_refused("a mark of at most", [](auto& s) { s.chains[0].gone[0] = 2; });
  expect_refused("further bytes", [](auto& s) { s.chains[0].gone.pop_back(); });
}

}  // namespace
}  // namespace kvroute::testing
