#include "kvroute/hash/block_hash.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <vector>

namespace kvroute {
namespace {

using Tokens = std::vector<std::uint32_t>;
using Hashes = std::vector<std::uint64_t>;

Tokens range(std::uint32_t first, std::uint32_t end) {
  Tokens tokens(end - first);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// Computed by compute_block_hash_for_seq of ai-dynamo-runtime 1.6.1.
TEST(BlockHash, EqualsDynamosForEachBlock) {
  EXPECT_EQ(hash_blocks(range(0, 64), 16), (Hashes{15310707395893867146U, 15292316782987903195U,
                                                   5532946206955930018U, 14928757266181269122U}));
}

TEST(BlockHash, EqualsDynamosAtEveryLengthClassOfXxh3) {
  EXPECT_EQ(hash_blocks(range(0, 6), 1),
            (Hashes{16451421758532862321U, 14426539925402682893U, 132880511001376177U,
                    9232589889711073482U, 13814194016428080928U, 17311669453583354541U}));
  EXPECT_EQ(hash_blocks(range(0, 8), 4), (Hashes{9143094415614847814U, 12124091508212882195U}));
  EXPECT_EQ(hash_blocks(Tokens(32, 0xffffffffU), 32), (Hashes{10978353688190715391U}));
  EXPECT_EQ(hash_blocks(Tokens(48, 0), 48), (Hashes{5668416277218608172U}));
  EXPECT_EQ(hash_blocks(range(0, 64), 64), (Hashes{3480597578098033343U}));
  EXPECT_EQ(hash_blocks(range(1000, 1130), 64),
            (Hashes{7337154364384838499U, 8394412188204864904U}));
}

// Blocks of 16 tokens are hashed eight at a time where the processor can, the rest one at a time.
TEST(BlockHash, IsTheSameForABlockAloneAndAmongOthers) {
  std::mt19937_64 random(7);
  Tokens tokens(41 * 16 + 5);
  for (auto& token : tokens) token = static_cast<std::uint32_t>(random());
  for (std::size_t blocks = 0; blocks <= 40; ++blocks) {
    for (const std::size_t begin : {std::size_t{0}, std::size_t{1}, std::size_t{16}}) {
      const std::uint64_t seed = random();
      const std::span<const std::uint32_t> part(tokens.data() + begin, blocks * 16 + 3);
      const Hashes hashes = hash_blocks(part, 16, seed);
      ASSERT_EQ(hashes.size(), blocks);
      for (std::size_t i = 0; i < blocks; ++i) {
        ASSERT_EQ(hashes[i], hash_block_with_extra(part.subspan(i * 16, 16), {}, seed));
      }
    }
  }
}

TEST(BlockHash, EqualsDynamosUnderLoraAndSalt) {
  EXPECT_EQ(
      hash_blocks(range(0, 32), 16, namespace_seed({.lora = "adapter", .salt = "", .tenant = ""})),
      (Hashes{8452581587455479075U, 9170922603811187567U}));
  EXPECT_EQ(
      hash_blocks(range(0, 32), 16, namespace_seed({.lora = "", .salt = "salt", .tenant = ""})),
      (Hashes{11596338992882233936U, 1296327663901048959U}));
}

TEST(BlockHash, LeavesOutATrailingPartialBlock) {
  EXPECT_EQ(hash_blocks(range(0, 31), 16), hash_blocks(range(0, 16), 16));
  EXPECT_TRUE(hash_blocks(range(0, 15), 16).empty());
  EXPECT_TRUE(hash_blocks(Tokens{}, 16).empty());
}

TEST(BlockHash, WithoutExtraContentIsThePlainHash) {
  for (const std::size_t block_size : {1U, 16U, 60U, 61U, 64U, 100U}) {
    const Tokens tokens = range(7, 7 + static_cast<std::uint32_t>(block_size));
    EXPECT_EQ(hash_block_with_extra(tokens, {}, 99), hash_blocks(tokens, block_size, 99)[0]);
    EXPECT_NE(hash_block_with_extra(tokens, Hashes{1}, 99), hash_blocks(tokens, block_size, 99)[0]);
  }
}

TEST(NamespaceSeed, SeparatesItsPartsAndIgnoresEmptyOnes) {
  EXPECT_EQ(namespace_seed({}), kHashSeed);
  const auto lora = namespace_seed({.lora = "x", .salt = "", .tenant = ""});
  const auto salt = namespace_seed({.lora = "", .salt = "x", .tenant = ""});
  const auto tenant = namespace_seed({.lora = "", .salt = "", .tenant = "x"});
  EXPECT_NE(lora, salt);
  EXPECT_NE(salt, tenant);
  EXPECT_NE(lora, tenant);
  EXPECT_NE(lora, kHashSeed);
}

// The first is the local hash; computed with the xxhash package of Python from the formula.
TEST(SequenceHashes, ChainLocalHashes) {
  const Hashes local = hash_blocks(range(0, 64), 16);
  Hashes chained(local.size());
  sequence_hashes(local, chained);
  EXPECT_EQ(chained, (Hashes{15310707395893867146U, 13769157705258532664U, 11879827756109914528U,
                             3888788807566526800U}));
}

TEST(Identifier, OfSixtyFourHexDigitsIsItsFirstSixteen) {
  const std::string digits = "0123456789abcdef" + std::string(48, 'f');
  EXPECT_EQ(hash_identifier(digits), 0x0123456789abcdefU);
  EXPECT_NE(hash_identifier(digits.substr(1)), 0x123456789abcdefU);
}

}  // namespace
}  // namespace kvroute
