#include "kvroute/events/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "payloads.h"
#include "recording_sink.h"

namespace kvroute {
namespace {

using testing::batch_of;
using testing::Chain;
using ::testing::ElementsAre;
using testing::from_hex;
using ::testing::IsEmpty;
using testing::packed;
using testing::Packer;
using testing::Payload;
using testing::RecordingSink;
using testing::SinkCall;

constexpr std::uint64_t kFirst = 7982712666671721126U;
constexpr std::uint64_t kSecond = 12675106281628537544U;

class DecoderTest : public ::testing::Test {
 protected:
  /// Decodes for a worker of any block size and returns the events.
  std::vector<SinkCall> decode(const Payload& payload) {
    RecordingSink sink;
    decoded_ = decoder_.parse(payload);
    if (decoded_) counts_ = decoder_.deliver(dialect_, decoder_.dp_rank().value_or(9), sink);
    return sink.calls();
  }

  BatchDecoder decoder_;
  StreamDialect dialect_{0};
  EventCounts counts_;
  bool decoded_ = false;
};

TEST_F(DecoderTest, ReadsVllm09Arrays) {
  const auto calls = decode(from_hex(
      "92cb3ff80000000000009196ab426c6f636b53746f72656492cf6ec84ae048faaaa6cfafe70601eeca92c8c0940"
      "102030402c0"));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].kind, SinkCall::Kind::stored);
  EXPECT_EQ(calls[0].dp_rank, 9U);  // the batch names none
  EXPECT_THAT(calls[0].hashes, ElementsAre(kFirst, kSecond));
  EXPECT_EQ(calls[0].parent, std::nullopt);
  EXPECT_THAT(calls[0].tokens, ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(calls[0].block_size, 2U);
  EXPECT_EQ(calls[0].tier, Tier::device);
}

TEST_F(DecoderTest, ReadsVllm023Arrays) {
  const auto calls = decode(from_hex(
      "93cb3ff8000000000000919cab426c6f636b53746f72656491cf6ec84ae048faaaa6cfafe70601eeca92c8920102"
      "02c0a3475055c091c000ae66756c6c5f617474656e74696f6ec000"));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].dp_rank, 0U);
  EXPECT_THAT(calls[0].hashes, ElementsAre(kFirst));
  EXPECT_EQ(calls[0].parent, kSecond);
  EXPECT_THAT(calls[0].extra, IsEmpty());
  EXPECT_EQ(calls[0].group_idx, 0U);
}

TEST_F(DecoderTest, ReadsVllm024Maps) {
  const auto calls = decode(from_hex(
      "93cb3ff800000000000091"
      "8ba474797065ab426c6f636b53746f726564ac626c6f636b5f68617368657391cf6ec84ae048faaaa6b170617265"
      "6e745f626c6f636b5f68617368c0a9746f6b656e5f696473920102aa626c6f636b5f73697a6502a76c6f72615f69"
      "64c0a66d656469756da3475055a96c6f72615f6e616d65c0aa65787472615f6b65797391c0a967726f75705f6964"
      "7800b26b765f63616368655f737065635f6b696e64ae66756c6c5f617474656e74696f6e00"));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].dp_rank, 0U);
  EXPECT_THAT(calls[0].hashes, ElementsAre(kFirst));
  EXPECT_EQ(calls[0].parent, std::nullopt);
  EXPECT_THAT(calls[0].tokens, ElementsAre(1, 2));
  EXPECT_EQ(counts_.events, 1U);
  EXPECT_EQ(counts_.unknown_keys, 0U);
}

TEST_F(DecoderTest, ReadsRemovedMaps) {
  const auto calls = decode(from_hex(
      "93cb3ff80000000000009184a474797065ac426c6f636b52656d6f766564ac626c6f636b5f68617368657391cf6e"
      "c84ae048faaaa6a66d656469756da3475055a967726f75705f6964780000"));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].kind, SinkCall::Kind::removed);
  EXPECT_THAT(calls[0].hashes, ElementsAre(kFirst));
  EXPECT_EQ(calls[0].group_idx, 0U);
}

TEST_F(DecoderTest, ReadsClearedInBothForms) {
  for (const char* hex : {"93cb3ff80000000000009181a474797065b0416c6c426c6f636b73436c656172656400",
                          "93cb3ff80000000000009191b0416c6c426c6f636b73436c656172656400"}) {
    const auto calls = decode(from_hex(hex));
    ASSERT_EQ(calls.size(), 1U) << hex;
    EXPECT_EQ(calls[0].kind, SinkCall::Kind::cleared);
    EXPECT_EQ(calls[0].dp_rank, 0U);
    EXPECT_EQ(calls[0].tier, Tier::device);
  }
}

TEST_F(DecoderTest, ReadsTheMediumOfACleared) {
  const auto calls = decode(batch_of(1, [](Packer& packer) {
    packer.pack_map(2);
    packer.pack("type");
    packer.pack("AllBlocksCleared");
    packer.pack("medium");
    packer.pack("CPU");
  }));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].kind, SinkCall::Kind::cleared);
  EXPECT_EQ(calls[0].tier, Tier::host);
  EXPECT_EQ(counts_.other_tier, 1U);
}

TEST_F(DecoderTest, CastsSignedHashes) {
  const auto calls =
      decode(from_hex("93cb3ff80000000000009197ab426c6f636b53746f72656491d3afe70601eeca92c8c0920102"
                      "02c0a347505500"));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_THAT(calls[0].hashes, ElementsAre(kSecond));
}

TEST_F(DecoderTest, ReadsSglangsSaltInTheNamesPlace) {
  const auto calls = decode(from_hex(
      "93cb3ff80000000000009198ab426c6f636b53746f726564917bc092010202c0a347505581aa63616368655f7361"
      "6c74a874656e616e742d61c0"));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].salt, "tenant-a");
  EXPECT_EQ(calls[0].lora_name, "");
}

TEST_F(DecoderTest, ReadsABatchThatIsAMap) {
  const auto calls = decode(packed([](Packer& packer) {
    packer.pack_map(3);
    packer.pack("data_parallel_rank");
    packer.pack(3);
    packer.pack("ts");
    packer.pack(17);
    packer.pack("events");
    packer.pack_array(1);
    testing::pack_stored_array(packer, {.first_hash = 5, .parent = 4});
  }));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].dp_rank, 3U);
  EXPECT_EQ(calls[0].parent, 4U);
}

TEST_F(DecoderTest, TakesTheLastEightBytesOfAByteString) {
  const auto calls = decode(batch_of(1, [](Packer& packer) {
    const std::string digest = std::string(24, '\xEE') + "\x01\x02\x03\x04\x05\x06\x07\x08";
    packer.pack_array(5);
    packer.pack("BlockStored");
    packer.pack_array(2);
    packer.pack_bin(32);
    packer.pack_bin_body(digest.data(), 32);
    packer.pack_bin(2);
    packer.pack_bin_body("\x01\xFF", 2);
    packer.pack_bin(8);
    packer.pack_bin_body(digest.data() + 16, 8);
    packer.pack(std::vector<int>{1, 2});
    packer.pack(1);
  }));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_THAT(calls[0].hashes, ElementsAre(0x0102030405060708U, 0x01FFU));
  EXPECT_EQ(calls[0].parent, 0xEEEEEEEEEEEEEEEEU);
}

TEST_F(DecoderTest, ReadsMapsWhateverTheOrderOfKeys) {
  const auto calls = decode(batch_of(1, [](Packer& packer) {
    packer.pack_map(5);
    packer.pack("token_ids");
    packer.pack(std::vector<int>{7, 8});
    packer.pack("a_key_of_tomorrow");
    packer.pack(std::vector<std::vector<int>>{{1}, {2, 3}});
    packer.pack("block_size");
    packer.pack(2);
    packer.pack("block_hashes");
    packer.pack(std::vector<int>{11});
    packer.pack("type");
    packer.pack("BlockStored");
  }));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_THAT(calls[0].tokens, ElementsAre(7, 8));
  EXPECT_EQ(counts_.unknown_keys, 1U);
}

TEST_F(DecoderTest, TakesAParentOfZeroAsNoneUntilThatHashWasStored) {
  const Payload child = testing::stored_batch({.first_hash = 5, .parent = 0});
  EXPECT_EQ(decode(child).at(0).parent, std::nullopt);
  EXPECT_EQ(decode(testing::stored_batch({.first_hash = 0})).size(), 1U);
  EXPECT_EQ(decode(child).at(0).parent, 0U);
}

TEST_F(DecoderTest, KeepsTheRestOfABatchBesideBadEvents) {
  const auto calls = decode(batch_of(9, [](Packer& packer) {
    packer.pack_nil();
    packer.pack_array(0);
    packer.pack_array(1);
    packer.pack("SomethingNew");
    packer.pack_map(1);
    packer.pack("type");
    packer.pack("BlockStored");
    packer.pack_array(5);  // token ids that do not fit
    packer.pack("BlockStored");
    packer.pack(std::vector<int>{1});
    packer.pack_nil();
    packer.pack(std::vector<std::uint64_t>{std::uint64_t{1} << 32U});
    packer.pack(1);
    packer.pack_array(5);  // pairs of token ids
    packer.pack("BlockStored");
    packer.pack(std::vector<int>{1});
    packer.pack_nil();
    packer.pack(std::vector<std::vector<int>>{{1, 2}});
    packer.pack(1);
    packer.pack_array(4);  // too short
    packer.pack("BlockStored");
    packer.pack(std::vector<int>{1});
    packer.pack_nil();
    packer.pack(std::vector<int>{1});
    packer.pack_array(2);  // a hash that is none
    packer.pack("BlockRemoved");
    packer.pack(std::vector<std::string>{"abc"});
    testing::pack_stored_map(packer, {.first_hash = 8});
  }));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_THAT(calls[0].hashes, ElementsAre(8));
  EXPECT_EQ(counts_.bad_events, 7U);
  EXPECT_EQ(counts_.unknown_events, 1U);
  EXPECT_EQ(counts_.events, 1U);
}

TEST_F(DecoderTest, RefusesAnotherBlockSize) {
  dialect_ = StreamDialect(16);
  EXPECT_THAT(decode(testing::stored_batch({.block_size = 4})), IsEmpty());
  EXPECT_EQ(counts_.refused_block_size, 1U);
  EXPECT_EQ(decode(testing::stored_batch({.block_size = 16})).size(), 1U);
}

TEST_F(DecoderTest, RefusesTokensThatDoNotFillTheBlocks) {
  const auto calls = decode(batch_of(2, [](Packer& packer) {
    for (const std::vector<int>& hashes : {std::vector<int>{1}, std::vector<int>{}}) {
      packer.pack_array(5);
      packer.pack("BlockStored");
      packer.pack(hashes);
      packer.pack_nil();
      packer.pack(std::vector<int>{1, 2, 3});
      packer.pack(2);
    }
  }));
  EXPECT_THAT(calls, IsEmpty());
  EXPECT_EQ(counts_.length_mismatch, 2U);
}

TEST_F(DecoderTest, DropsSelfReferencingStores) {
  for (const std::uint32_t blocks : {2U, 30U}) {
    const auto calls = decode(batch_of(3, [&](Packer& packer) {
      const Chain chain{.first_hash = 1, .blocks = blocks, .block_size = 1, .parent = 1};
      testing::pack_stored_map(packer, chain);
      std::vector<std::uint64_t> twice = chain.hashes();
      twice.back() = twice.front();
      packer.pack_array(5);
      packer.pack("BlockStored");
      packer.pack(twice);
      packer.pack_nil();
      packer.pack(chain.tokens());
      packer.pack(1);
      testing::pack_stored_map(packer, {.first_hash = 100, .blocks = blocks, .parent = 99});
    }));
    ASSERT_EQ(calls.size(), 1U);
    EXPECT_EQ(calls[0].hashes.front(), 100U);
    EXPECT_EQ(counts_.self_referencing, 2U);
  }
}

struct GroupCase {
  std::optional<int> group;
  const char* kind;
  bool indexed;
};

TEST_F(DecoderTest, IndexesMainAttentionGroupsOnly) {
  const GroupCase cases[] = {
      {std::nullopt, nullptr, true},  {0, nullptr, true},         {1, nullptr, false},
      {2, "full_attention", true},    {3, "mla_attention", true}, {4, "sink_full_attention", true},
      {5, "sliding_window", false},   {0, "mamba", false},        {6, "something_new", false},
      {999, "full_attention", false},
  };
  for (const GroupCase& c : cases) {
    dialect_.reset();
    const auto calls = decode(batch_of(2, [&](Packer& packer) {
      packer.pack_array(11);
      packer.pack("BlockStored");
      packer.pack(std::vector<int>{1});
      packer.pack_nil();
      packer.pack(std::vector<int>{1});
      packer.pack(1);
      for (int i = 0; i < 4; ++i) packer.pack_nil();
      if (c.group) {
        packer.pack(*c.group);
      } else {
        packer.pack_nil();
      }
      if (c.kind != nullptr) {
        packer.pack(c.kind);
      } else {
        packer.pack_nil();
      }
      packer.pack_array(4);
      packer.pack("BlockRemoved");
      packer.pack(std::vector<int>{1});
      packer.pack_nil();
      if (c.group) {
        packer.pack(*c.group);
      } else {
        packer.pack_nil();
      }
    }));
    EXPECT_EQ(calls.size(), c.indexed ? 2U : 0U) << c.group.value_or(-1);
    EXPECT_EQ(counts_.other_groups, c.indexed ? 0U : 2U) << c.group.value_or(-1);
  }
}

TEST_F(DecoderTest, NamesTheTierOfEachMedium) {
  const std::pair<const char*, Tier> cases[] = {
      {"GPU", Tier::device},     {"CPU", Tier::host},     {"CPU_PINNED", Tier::host},
      {"DISK", Tier::disk},      {"STORAGE", Tier::disk}, {"EXTERNAL", Tier::external},
      {"NOVEL", Tier::external},
  };
  for (const auto& [medium, tier] : cases) {
    const auto calls = decode(batch_of(
        1, [name = medium](Packer& packer) { testing::pack_removed_array(packer, {1}, name); }));
    ASSERT_EQ(calls.size(), 1U);
    EXPECT_EQ(calls[0].tier, tier) << medium;
  }
  EXPECT_EQ(counts_.unknown_media, 1U);
  EXPECT_EQ(counts_.other_tier, 1U);
}

TEST_F(DecoderTest, PassesTokenlessLocationUpdates) {
  dialect_ = StreamDialect(16);
  const auto calls = decode(batch_of(1, [](Packer& packer) {
    packer.pack_array(7);
    packer.pack("BlockStored");
    packer.pack(std::vector<int>{1, 2});
    packer.pack_nil();
    packer.pack(std::vector<int>{});
    packer.pack(0);
    packer.pack_nil();
    packer.pack("CPU");
  }));
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_THAT(calls[0].tokens, IsEmpty());
  EXPECT_EQ(calls[0].tier, Tier::host);
  EXPECT_EQ(counts_.location_updates, 1U);
}

TEST_F(DecoderTest, RefusesWhatIsNoBatch) {
  const Payload whole = testing::stored_batch({});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    decode({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    EXPECT_FALSE(decoded_) << "cut to " << size;
  }
  Payload longer = whole;
  longer.push_back(std::byte{0xC0});
  decode(longer);
  EXPECT_FALSE(decoded_);
  for (const char* hex : {"c0", "90", "91c0", "92c0c0", "92c080", "93009080", "80", "81a26576c0",
                          "930090a161", "930090ff", "93c090c1"}) {
    decode(from_hex(hex));
    EXPECT_FALSE(decoded_) << hex;
  }
  decode(from_hex("930090c0"));
  EXPECT_TRUE(decoded_);
  decode(from_hex("920090"));
  EXPECT_TRUE(decoded_);
}

TEST_F(DecoderTest, RefusesDeepNestingAndLargePayloads) {
  Payload deep = from_hex("93");
  deep.insert(deep.end(), 100000, std::byte{0x91});
  decode(deep);
  EXPECT_FALSE(decoded_);

  BatchDecoder small(16);
  EXPECT_FALSE(small.parse(testing::stored_batch({})));
}

TEST_F(DecoderTest, DoesNotTrustAnnouncedLengths) {
  decode(from_hex("93c0ddffffffff"));
  EXPECT_FALSE(decoded_);
  decode(from_hex("93c091dfffffffff"));
  EXPECT_FALSE(decoded_);
  decode(from_hex("93c091dbfffffff0"));
  EXPECT_FALSE(decoded_);
  decode(from_hex("93c091c9fffffffe"));
  EXPECT_FALSE(decoded_);
  decode(from_hex("93c091c9ffffffff"));
  EXPECT_FALSE(decoded_);
}

}  // namespace
}  // namespace kvroute
