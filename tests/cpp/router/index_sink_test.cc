#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "kvroute/hash/block_hash.h"
#include "kvroute/index/prefix_tree.h"
#include "router/event_sinks.h"

namespace kvroute::detail {
namespace {

constexpr std::uint32_t kBlockSize = 4;

/// A sink of a worker with two ranks, in slots 0 and 5.
struct Sink {
  std::shared_ptr<PrefixTree> tree = std::make_shared<PrefixTree>();
  IndexSink sink{"w", tree, {0, 5}};
  std::vector<std::uint32_t> tokens = std::vector<std::uint32_t>(12);

  Sink() { std::iota(tokens.begin(), tokens.end(), 0U); }

  /// The blocks [first, end) of `tokens` under the names 100, 101, ...
  [[nodiscard]] BlockStored blocks(std::size_t first, std::size_t end) {
    names.clear();
    for (std::size_t i = first; i < end; ++i) names.push_back(100 + i);
    BlockStored event;
    event.engine_hashes = names;
    if (first > 0) event.parent = 99 + first;
    event.token_ids = std::span(tokens).subspan(first * kBlockSize, (end - first) * kBlockSize);
    event.block_size = kBlockSize;
    return event;
  }

  [[nodiscard]] std::uint32_t held(Slot slot, const Namespace& name = {}) const {
    return held(slot, Tier::device, name);
  }
  [[nodiscard]] std::uint32_t held(Slot slot, Tier tier, const Namespace& name = {}) const {
    Overlaps overlaps;
    tree->match(hash_blocks(tokens, kBlockSize, namespace_seed(name)), overlaps);
    return overlaps.depth(slot, tier);
  }

  std::vector<std::uint64_t> names;
};

TEST(IndexSink, StoresForTheSlotOfTheRank) {
  Sink s;
  s.sink.on_stored(1, s.blocks(0, 3));
  EXPECT_EQ(s.held(5), 3U);
  EXPECT_EQ(s.held(0), 0U);
  EXPECT_EQ(s.sink.stats(1).stored_blocks, 3U);
}

TEST(IndexSink, IgnoresRanksThatItDoesNotServe) {
  Sink s;
  s.sink.on_stored(2, s.blocks(0, 3));
  EXPECT_EQ(s.sink.stats(0).ignored, 1U);
  s.sink.on_stored(0, s.blocks(0, 3));
  s.sink.on_removed(2, {.engine_hashes = s.names, .tier = Tier::device, .group_idx = {}});
  s.sink.on_cleared(7, Tier::device);
  EXPECT_EQ(s.held(0), 3U);
  EXPECT_EQ(s.sink.stats(0).ignored, 3U);
  EXPECT_EQ(s.sink.stats(0).clears, 0U);
}

TEST(IndexSink, KeepsTiersApart) {
  Sink s;
  BlockStored on_host = s.blocks(0, 2);
  on_host.tier = Tier::host;
  s.sink.on_stored(0, on_host);
  BlockStored on_disk = s.blocks(2, 3);
  on_disk.tier = Tier::disk;
  s.sink.on_stored(0, on_disk);
  EXPECT_EQ(s.held(0), 0U);
  EXPECT_EQ(s.held(0, Tier::host), 2U);
  EXPECT_EQ(s.held(0, Tier::disk), 3U);

  s.sink.on_stored(0, s.blocks(0, 3));
  EXPECT_EQ(s.held(0), 3U);
  const std::vector<std::uint64_t> first{100};
  s.sink.on_removed(0, {.engine_hashes = first, .tier = Tier::device, .group_idx = {}});
  EXPECT_EQ(s.held(0), 0U);
  EXPECT_EQ(s.held(0, Tier::host), 3U);
  s.sink.on_removed(0, {.engine_hashes = first, .tier = Tier::host, .group_idx = {}});
  EXPECT_EQ(s.held(0, Tier::external), 0U);
  const SinkStats stats = s.sink.stats(0);
  EXPECT_EQ(stats.stored_blocks, 3U);
  EXPECT_EQ(stats.removed_blocks, 1U);
  EXPECT_EQ(stats.stored_lower, 3U);
  EXPECT_EQ(stats.removed_lower, 1U);
  EXPECT_EQ(stats.ignored, 0U);
}

TEST(IndexSink, TakesAnEventWithoutTokensForAFurtherPlaceOfKnownBlocks) {
  Sink s;
  s.sink.on_stored(0, s.blocks(0, 2));
  BlockStored offloaded = s.blocks(0, 3);
  offloaded.parent = 9999;  // means nothing here
  offloaded.token_ids = {};
  offloaded.block_size = 0;
  offloaded.tier = Tier::host;
  s.sink.on_stored(0, offloaded);
  EXPECT_EQ(s.held(0), 2U);
  EXPECT_EQ(s.sink.stats(0).stored_lower, 2U);
  EXPECT_EQ(s.sink.stats(0).unknown_blocks, 1U);
  EXPECT_EQ(s.sink.stats(0).unknown_parents, 0U);
  const std::vector<std::uint64_t> both{100, 101};
  s.sink.on_removed(0, {.engine_hashes = both, .tier = Tier::device, .group_idx = {}});
  EXPECT_EQ(s.held(0), 0U);
  EXPECT_EQ(s.held(0, Tier::host), 2U);
}

TEST(IndexSink, ClearsTheTierThatWasCleared) {
  Sink s;
  s.sink.on_stored(0, s.blocks(0, 3));
  BlockStored on_host = s.blocks(0, 2);
  on_host.tier = Tier::host;
  s.sink.on_stored(0, on_host);
  s.sink.on_cleared(0, Tier::device);
  EXPECT_EQ(s.held(0), 0U);
  EXPECT_EQ(s.held(0, Tier::host), 2U);
  s.sink.on_cleared(0, Tier::host);
  EXPECT_EQ(s.held(0, Tier::host), 0U);
  EXPECT_EQ(s.sink.stats(0).clears, 2U);
}

TEST(IndexSink, OfAWorkerWithOneRankTakesEveryRankAsItsOwn) {
  Sink s;
  IndexSink alone("w", s.tree, {7});
  alone.on_stored(3, s.blocks(0, 3));
  EXPECT_EQ(s.held(7), 3U);
  EXPECT_EQ(alone.stats(0).stored_blocks, 3U);
}

TEST(IndexSink, InheritsTheNamespaceOfTheParent) {
  Sink s;
  BlockStored first = s.blocks(0, 1);
  first.salt = "tenant";
  s.sink.on_stored(0, first);
  s.sink.on_stored(0, s.blocks(1, 3));
  EXPECT_EQ(s.held(0, {.lora = {}, .salt = "tenant", .tenant = {}}), 3U);
  EXPECT_EQ(s.held(0), 0U);
}

TEST(IndexSink, AdoptsAChildThatCameBeforeItsParent) {
  Sink s;
  s.sink.on_stored(0, s.blocks(1, 3));
  s.sink.on_stored(0, s.blocks(0, 1));
  EXPECT_EQ(s.held(0), 3U);
  EXPECT_EQ(s.sink.stats(0).stored_blocks, 3U);
}

// Engines name the salt in the first block only, so the child was hashed without it.
TEST(IndexSink, DropsAChildThatCameBeforeItsSaltedParentUntilItIsAnnouncedAgain) {
  Sink s;
  s.sink.on_stored(0, s.blocks(1, 3));
  BlockStored first = s.blocks(0, 1);
  first.salt = "tenant";
  s.sink.on_stored(0, first);
  const Namespace name{.lora = {}, .salt = "tenant", .tenant = {}};
  EXPECT_EQ(s.held(0, name), 1U);
  EXPECT_EQ(s.tree->stats().waited_in_vain, 2U);
  EXPECT_EQ(s.tree->stats().blocks, 1U);
  s.sink.on_stored(0, s.blocks(1, 3));
  EXPECT_EQ(s.held(0, name), 3U);
  EXPECT_EQ(s.held(0), 0U);
}

TEST(IndexSink, KeepsAnUnnamedAdapterFromTheBaseModel) {
  Sink s;
  BlockStored event = s.blocks(0, 3);
  event.lora_id = 4;
  s.sink.on_stored(0, event);
  EXPECT_EQ(s.held(0), 0U);
}

TEST(IndexSink, HashesContentBeyondTokensIntoItsBlock) {
  Sink s;
  const std::vector<std::uint64_t> image{77};
  const std::vector<BlockExtra> extra{{}, {image}, {}};
  BlockStored event = s.blocks(0, 3);
  event.extra = extra;
  s.sink.on_stored(0, event);
  EXPECT_EQ(s.held(0), 1U);
  std::vector<std::uint64_t> hashes = hash_blocks(s.tokens, kBlockSize);
  hashes[1] = hash_block_with_extra(std::span(s.tokens).subspan(4, 4), image, kHashSeed);
  Overlaps overlaps;
  s.tree->match(hashes, overlaps);
  EXPECT_EQ(overlaps.held[0], 3U);
}

TEST(IndexSink, CountsWhatDidNotFit) {
  Sink s;
  s.sink.on_stored(0, s.blocks(1, 3));  // its parent was never announced
  EXPECT_EQ(s.sink.stats(0).unknown_parents, 1U);
  s.sink.on_stored(0, s.blocks(0, 2));
  s.sink.on_stored(0, s.blocks(0, 2));
  EXPECT_EQ(s.sink.stats(0).duplicates, 2U);
  const std::vector<std::uint64_t> unknown{9999};
  s.sink.on_removed(0, {.engine_hashes = unknown, .tier = Tier::device, .group_idx = {}});
  EXPECT_EQ(s.sink.stats(0).unknown_blocks, 1U);
}

TEST(IndexSink, ForgetsOneRankWhenItsStreamCannotBeTrusted) {
  Sink s;
  s.sink.on_stored(0, s.blocks(0, 3));
  s.sink.on_stored(1, s.blocks(0, 3));
  BlockStored on_host = s.blocks(0, 3);
  on_host.tier = Tier::host;
  s.sink.on_stored(0, on_host);
  s.sink.on_invalidated(0, InvalidationReason::gap);
  EXPECT_EQ(s.held(0, Tier::external), 0U);
  EXPECT_EQ(s.held(5), 3U);
  s.sink.on_cleared(1, Tier::device);
  EXPECT_EQ(s.held(5), 0U);
  EXPECT_EQ(s.sink.stats(1).clears, 1U);
}

}  // namespace
}  // namespace kvroute::detail
