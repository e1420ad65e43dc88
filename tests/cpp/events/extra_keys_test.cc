#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "kvroute/events/decoder.h"
#include "kvroute/hash/block_hash.h"
#include "payloads.h"
#include "recording_sink.h"

namespace kvroute {
namespace {

using testing::batch_of;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Packer;
using testing::RecordingSink;
using testing::SinkCall;

constexpr std::uint64_t kHashes[] = {71, 72};

class ExtraKeysTest : public ::testing::Test {
 protected:
  /// Decodes one store of two blocks whose `extra_keys` are what `write` packs.
  template <typename Write>
  SinkCall decode(const char* lora_name, std::optional<std::uint64_t> parent, const Write& write) {
    const auto payload = batch_of(1, [&](Packer& packer) {
      packer.pack_map(7);
      packer.pack("type");
      packer.pack("BlockStored");
      packer.pack("block_hashes");
      packer.pack(std::vector<std::uint64_t>(std::begin(kHashes), std::end(kHashes)));
      packer.pack("token_ids");
      packer.pack(std::vector<int>{1, 2, 3, 4});
      packer.pack("block_size");
      packer.pack(2);
      packer.pack("parent_block_hash");
      if (parent) {
        packer.pack(*parent);
      } else {
        packer.pack_nil();
      }
      packer.pack("lora_name");
      if (lora_name != nullptr) {
        packer.pack(lora_name);
      } else {
        packer.pack_nil();
      }
      write(packer);
    });
    RecordingSink sink;
    BatchDecoder decoder;
    StreamDialect dialect(0);
    EXPECT_TRUE(decoder.parse(payload));
    counts_ = decoder.deliver(dialect, 0, sink);
    EXPECT_EQ(sink.calls().size(), 1U);
    return sink.calls().empty() ? SinkCall{SinkCall::Kind::cleared} : sink.calls().front();
  }

  static void key(Packer& packer) { packer.pack("extra_keys"); }

  EventCounts counts_;
};

TEST_F(ExtraKeysTest, ABareTextInTheFirstBlockIsTheSalt) {
  const SinkCall call = decode(nullptr, std::nullopt, [](Packer& packer) {
    key(packer);
    packer.pack_array(2);
    packer.pack(std::vector<std::string>{"salt"});
    packer.pack_nil();
  });
  EXPECT_EQ(call.salt, "salt");
  EXPECT_THAT(call.extra, IsEmpty());
  EXPECT_EQ(counts_.tainted_blocks, 0U);
}

TEST_F(ExtraKeysTest, TheAdaptersNameIsNoSalt) {
  const SinkCall call = decode("adapter", std::nullopt, [](Packer& packer) {
    key(packer);
    packer.pack_array(2);
    packer.pack(std::vector<std::string>{"adapter"});
    packer.pack(std::vector<std::string>{"adapter"});
  });
  EXPECT_EQ(call.lora_name, "adapter");
  EXPECT_EQ(call.salt, "");
  EXPECT_THAT(call.extra, IsEmpty());
}

TEST_F(ExtraKeysTest, TheSaltComesAfterAdapterAndIdentifiers) {
  const SinkCall call = decode("adapter", std::nullopt, [](Packer& packer) {
    key(packer);
    packer.pack_array(2);
    packer.pack(std::vector<std::string>{"adapter", "image", "salt"});
    packer.pack(std::vector<std::string>{"adapter", "image"});
  });
  EXPECT_EQ(call.salt, "salt");
  const std::uint64_t image = hash_identifier("image");
  EXPECT_THAT(call.extra, ElementsAre(ElementsAre(image), ElementsAre(image)));
}

TEST_F(ExtraKeysTest, ABareTextInALaterBlockIsAnIdentifier) {
  const SinkCall call = decode(nullptr, 5, [](Packer& packer) {
    key(packer);
    packer.pack_array(2);
    packer.pack(std::vector<std::string>{"image"});
    packer.pack_nil();
  });
  EXPECT_EQ(call.salt, "");
  EXPECT_THAT(call.extra, ElementsAre(ElementsAre(hash_identifier("image")), IsEmpty()));
}

TEST_F(ExtraKeysTest, ObjectsAndEmbeddingsGiveAscendingDigests) {
  const SinkCall call = decode(nullptr, std::nullopt, [](Packer& packer) {
    key(packer);
    packer.pack_array(2);
    packer.pack_array(3);
    for (const char* name : {"a", "b"}) {
      packer.pack_array(2);
      packer.pack(name);
      packer.pack(-3);
    }
    packer.pack_bin(4);
    packer.pack_bin_body("\x01\x02\x03\x04", 4);
    packer.pack_nil();
  });
  std::vector<std::uint64_t> digests{hash_identifier("a"), hash_identifier("b"),
                                     hash_identifier("\x01\x02\x03\x04")};
  std::sort(digests.begin(), digests.end());
  EXPECT_EQ(call.salt, "");
  ASSERT_EQ(call.extra.size(), 2U);
  EXPECT_EQ(call.extra[0], digests);
  EXPECT_THAT(call.extra[1], IsEmpty());
}

TEST_F(ExtraKeysTest, WhatIsNotUnderstoodTaintsItsBlock) {
  const auto writers = std::vector<std::function<void(Packer&)>>{
      [](Packer& packer) { packer.pack_array(1).pack(42); },
      [](Packer& packer) { packer.pack_array(1).pack(true); },
      [](Packer& packer) { packer.pack_array(1).pack_map(1).pack("mm").pack("x"); },
      [](Packer& packer) { packer.pack_array(1).pack_array(1).pack("x"); },
      [](Packer& packer) { packer.pack_array(1).pack_array(3).pack("x").pack(1).pack(1); },
      [](Packer& packer) { packer.pack_array(1).pack_array(2).pack(1).pack("x"); },
      [](Packer& packer) { packer.pack_array(1).pack_array(0); },
      [](Packer& packer) { packer.pack_array(2).pack_array(2).pack_array(0).pack(1).pack(1); },
      [](Packer& packer) { packer.pack_map(0); },
      [](Packer& packer) { packer.pack("not a tuple"); },
  };
  for (std::size_t i = 0; i < writers.size(); ++i) {
    const SinkCall call = decode(nullptr, 5, [&](Packer& packer) {
      key(packer);
      packer.pack_array(2);
      packer.pack_nil();
      writers[i](packer);
    });
    EXPECT_EQ(counts_.tainted_blocks, 1U) << i;
    EXPECT_THAT(call.extra, ElementsAre(IsEmpty(), ElementsAre(kHashes[1]))) << i;
  }
}

TEST_F(ExtraKeysTest, KeysThatDoNotAlignTaintAllBlocks) {
  const SinkCall call = decode(nullptr, 5, [](Packer& packer) {
    key(packer);
    packer.pack_array(3);
    for (int i = 0; i < 3; ++i) packer.pack_nil();
  });
  EXPECT_EQ(counts_.tainted_blocks, 2U);
  EXPECT_THAT(call.extra, ElementsAre(ElementsAre(kHashes[0]), ElementsAre(kHashes[1])));
}

TEST_F(ExtraKeysTest, ForeignMultimodalKeysTaintTheirEvent) {
  const SinkCall tainted = decode(nullptr, 5, [](Packer& packer) {
    packer.pack("mm_keys");
    packer.pack_array(2);
    packer.pack_array(0);
    packer.pack_array(1).pack_map(1).pack("hash").pack("x");
  });
  EXPECT_EQ(tainted.extra.size(), 2U);
  const SinkCall clean = decode(nullptr, 5, [](Packer& packer) {
    packer.pack("mm_keys");
    packer.pack_array(2);
    packer.pack_array(0);
    packer.pack_nil();
  });
  EXPECT_THAT(clean.extra, IsEmpty());
}

TEST_F(ExtraKeysTest, AnEmptyListSaysNothing) {
  const SinkCall call = decode(nullptr, 5, [](Packer& packer) {
    key(packer);
    packer.pack_array(0);
  });
  EXPECT_THAT(call.extra, IsEmpty());
  EXPECT_EQ(counts_.tainted_blocks, 0U);
}

TEST_F(ExtraKeysTest, ASaltFieldWinsAndIsNotCountedTwice) {
  const SinkCall call = decode(nullptr, std::nullopt, [](Packer& packer) {
    packer.pack("metadata");
    packer.pack_map(1);
    packer.pack("cache_salt");
    packer.pack("s");
  });
  EXPECT_EQ(call.salt, "s");
}

}  // namespace
}  // namespace kvroute
