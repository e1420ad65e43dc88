// Events of every tier, from the bytes that engines send to the index.

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "../events/payloads.h"
#include "kvroute/events/decoder.h"
#include "kvroute/hash/block_hash.h"
#include "kvroute/index/prefix_tree.h"
#include "router/event_sinks.h"

namespace kvroute::detail {
namespace {

using kvroute::testing::batch_of;
using kvroute::testing::Chain;
using kvroute::testing::pack_removed_array;
using kvroute::testing::pack_removed_map;
using kvroute::testing::pack_stored_array;
using kvroute::testing::pack_stored_map;
using kvroute::testing::Packer;
using kvroute::testing::Payload;
using kvroute::testing::stored_batch;

using Depths = std::array<std::uint32_t, kTiers>;

class TieredEventsTest : public ::testing::Test {
 protected:
  void send(const Payload& payload) {
    ASSERT_TRUE(decoder_.parse(payload));
    counts_ = decoder_.deliver(dialect_, 0, sink_);
  }

  /// Depths of the chain's tokens, with each further tier.
  [[nodiscard]] Depths depths(const Chain& chain) const {
    Overlaps overlaps;
    tree_->match(hash_blocks(chain.tokens(), chain.block_size), overlaps);
    Depths depths{};
    for (std::size_t i = 0; i < kTiers; ++i) depths[i] = overlaps.depth(0, static_cast<Tier>(i));
    return depths;
  }

  std::shared_ptr<PrefixTree> tree_ = std::make_shared<PrefixTree>();
  IndexSink sink_{"w", tree_, {0}};
  StreamDialect dialect_{4};  // other block sizes are refused
  BatchDecoder decoder_;
  EventCounts counts_;
};

/// SGLang's: arrays, stored with all that they stand for whatever the medium.
Payload sglang_stored(const Chain& chain, const char* medium) {
  return batch_of(1, [&](Packer& packer) { pack_stored_array(packer, chain, medium, false); });
}

Payload sglang_removed(const std::vector<std::uint64_t>& hashes, const char* medium) {
  return batch_of(1, [&](Packer& packer) { pack_removed_array(packer, hashes, medium); });
}

/// vLLM's offloading connector: hashes, and nothing of what they stand for.
Payload vllm_offloaded(const std::vector<std::uint64_t>& hashes, const char* medium) {
  constexpr Chain kNothing{.blocks = 0, .block_size = 0};
  return batch_of(1, [&](Packer& packer) { pack_stored_map(packer, hashes, kNothing, medium); });
}

Payload vllm_removed(const std::vector<std::uint64_t>& hashes, const char* medium) {
  return batch_of(1, [&](Packer& packer) { pack_removed_map(packer, hashes, medium); });
}

Payload cleared() { return batch_of(1, kvroute::testing::pack_cleared_map); }

TEST_F(TieredEventsTest, SglangsBlocksAreFoundInTheTierOfTheirMedium) {
  const Chain chain{.first_hash = 10, .blocks = 4};
  send(sglang_stored({.first_hash = 10, .blocks = 4}, "GPU"));
  send(sglang_stored({.first_hash = 10, .blocks = 4}, "CPU_PINNED"));
  send(sglang_stored({.first_hash = 10, .blocks = 4}, "DISK"));
  send(sglang_stored({.first_hash = 10, .blocks = 4}, "EXTERNAL"));
  EXPECT_EQ(tree_->stats().held_exact, 4U);
  EXPECT_EQ(tree_->stats().held_lower, 12U);
  send(sglang_removed({11, 12, 13}, "GPU"));
  EXPECT_EQ(depths(chain), (Depths{1, 4, 4, 4}));
  send(sglang_removed({12, 13}, "CPU_PINNED"));
  EXPECT_EQ(depths(chain), (Depths{1, 2, 4, 4}));
  send(sglang_removed({13}, "DISK"));
  EXPECT_EQ(depths(chain), (Depths{1, 2, 3, 4}));
  send(sglang_removed({10, 11, 12, 13}, "EXTERNAL"));
  EXPECT_EQ(depths(chain), (Depths{1, 2, 3, 3}));
}

TEST_F(TieredEventsTest, WhatVllmOffloadsByNameOutlivesTheDevice) {
  const Chain chain{.first_hash = 10, .blocks = 3};
  send(stored_batch(chain));
  send(vllm_offloaded({10, 11, 99}, "CPU"));
  EXPECT_EQ(counts_.refused_block_size, 0U);
  EXPECT_EQ(counts_.location_updates, 1U);
  EXPECT_EQ(sink_.stats(0).unknown_blocks, 1U);
  EXPECT_EQ(depths(chain), (Depths{3, 3, 3, 3}));
  send(vllm_offloaded({10}, "STORAGE"));
  send(cleared());
  EXPECT_EQ(depths(chain), (Depths{0, 2, 2, 2}));
  send(vllm_removed({10}, "CPU"));
  EXPECT_EQ(depths(chain), (Depths{0, 0, 2, 2}));

  Chain again{.first_hash = 10, .blocks = 1};
  send(stored_batch(again));
  EXPECT_EQ(depths(chain), (Depths{1, 2, 2, 2}));
}

TEST_F(TieredEventsTest, AChainBelowAnOffloadedParentIsAttached) {
  const Chain chain{.first_hash = 10, .blocks = 2};
  send(stored_batch(chain));
  send(vllm_offloaded({10, 11}, "CPU"));
  send(vllm_removed({10, 11}, "GPU"));
  send(sglang_stored({.first_hash = 12, .blocks = 1, .parent = 11}, "GPU"));
  EXPECT_EQ(sink_.stats(0).unknown_parents, 0U);
  EXPECT_EQ(tree_->stats().blocks, 3U);
}

}  // namespace
}  // namespace kvroute::detail
