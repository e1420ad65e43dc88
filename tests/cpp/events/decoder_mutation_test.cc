#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "kvroute/base/random.h"
#include "kvroute/events/decoder.h"
#include "payloads.h"

namespace kvroute {
namespace {

using testing::batch_of;
using testing::Chain;
using testing::Packer;
using testing::Payload;

/// Reads everything that it is told, as an index would, and holds it to the contract.
class CheckingSink : public EventSink {
 public:
  void on_stored(std::uint32_t, const BlockStored& event) override {
    ASSERT_FALSE(event.engine_hashes.empty());
    if (!event.token_ids.empty()) {
      ASSERT_EQ(event.token_ids.size(), event.engine_hashes.size() * event.block_size);
    }
    ASSERT_TRUE(event.extra.empty() || event.extra.size() == event.engine_hashes.size());
    for (const std::uint64_t hash : event.engine_hashes) sum_ += hash;
    for (const std::uint32_t token : event.token_ids) sum_ += token;
    for (const char letter : event.lora_name) sum_ += static_cast<unsigned char>(letter);
    for (const char letter : event.salt) sum_ += static_cast<unsigned char>(letter);
    for (const BlockExtra& extra : event.extra) {
      for (const std::uint64_t digest : extra.digests) sum_ += digest;
    }
  }
  void on_removed(std::uint32_t, const BlockRemoved& event) override {
    for (const std::uint64_t hash : event.engine_hashes) sum_ += hash;
  }
  void on_cleared(std::uint32_t, Tier) override { ++sum_; }
  void on_invalidated(std::uint32_t, InvalidationReason) override {}

  std::uint64_t sum_ = 0;
};

void pack_rich_store(Packer& packer) {
  packer.pack_array(12);
  packer.pack("BlockStored");
  packer.pack(std::vector<std::uint64_t>{1, UINT64_MAX});
  packer.pack(-5);
  packer.pack(std::vector<std::uint32_t>{1, 200, 70000, UINT32_MAX});
  packer.pack(2);
  packer.pack_nil();
  packer.pack("GPU");
  packer.pack("adapter");
  packer.pack_array(2);
  packer.pack_array(3).pack("adapter").pack_array(2).pack("image").pack(3).pack_bin(2);
  packer.pack_bin_body("ab", 2);
  packer.pack_nil();
  packer.pack(0);
  packer.pack("full_attention");
  packer.pack_nil();
}

std::vector<Payload> seeds() {
  return {
      testing::stored_batch({.blocks = 3, .parent = 9}, 0),
      batch_of(2,
               [](Packer& packer) {
                 pack_rich_store(packer);
                 testing::pack_removed_map(packer, {1, 2, 3});
               }),
      batch_of(3,
               [](Packer& packer) {
                 testing::pack_stored_array(packer, Chain{.blocks = 12});
                 packer.pack_array(1).pack("AllBlocksCleared");
                 packer.pack_map(2).pack("type").pack("BlockStored").pack("metadata").pack_map(1);
                 packer.pack("cache_salt").pack("tenant");
               }),
  };
}

void mutate(Payload& payload, Random& random) {
  const std::uint64_t changes = 1 + random.below(4);
  for (std::uint64_t i = 0; i < changes && !payload.empty(); ++i) {
    const auto at = static_cast<std::ptrdiff_t>(random.below(payload.size()));
    switch (random.below(4)) {
      case 0:
        payload[static_cast<std::size_t>(at)] = static_cast<std::byte>(random.below(256));
        break;
      case 1:  // an array, map, text or integer where there was something else
        payload[static_cast<std::size_t>(at)] = static_cast<std::byte>(0x80 + random.below(128));
        break;
      case 2: payload.erase(payload.begin() + at); break;
      default:
        payload.insert(payload.begin() + at, static_cast<std::byte>(random.below(256)));
        break;
    }
  }
}

TEST(DecoderMutationTest, SurvivesDamagedPayloads) {
  const std::vector<Payload> originals = seeds();
  BatchDecoder decoder;
  StreamDialect dialect(0);
  CheckingSink sink;
  Random random(20261121);
  constexpr int kRounds = 200000;
  int decoded = 0;
  for (int round = 0; round < kRounds; ++round) {
    Payload payload = originals[random.below(originals.size())];
    mutate(payload, random);
    payload.shrink_to_fit();  // so that a read past its end is one past its allocation
    if (!decoder.parse(payload)) continue;
    ++decoded;
    decoder.deliver(dialect, 0, sink);
    if (::testing::Test::HasFatalFailure()) FAIL() << "round " << round;
  }
  EXPECT_GT(decoded, kRounds / 20);
  EXPECT_LT(decoded, kRounds);
}

TEST(DecoderMutationTest, SurvivesNoise) {
  BatchDecoder decoder;
  StreamDialect dialect(0);
  CheckingSink sink;
  Random random(7);
  for (int round = 0; round < 100000; ++round) {
    Payload payload(1 + random.below(64));
    for (std::byte& byte : payload) byte = static_cast<std::byte>(random.below(256));
    payload.front() = std::byte{0x93};
    if (decoder.parse(payload)) decoder.deliver(dialect, 0, sink);
  }
}

}  // namespace
}  // namespace kvroute
