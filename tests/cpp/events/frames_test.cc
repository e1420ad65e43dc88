#include "events/frames.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "payloads.h"

namespace kvroute::detail {
namespace {

using kvroute::testing::from_hex;
using kvroute::testing::Payload;

class FramesTest : public ::testing::Test {
 protected:
  /// Frames of these bytes, given as hexadecimal digits.
  std::span<const Frame> frames(const std::vector<const char*>& hex) {
    bytes_.clear();
    views_.clear();
    for (const char* text : hex) bytes_.push_back(from_hex(text));
    for (const Payload& bytes : bytes_) views_.emplace_back(bytes);
    return views_;
  }

  std::vector<Payload> bytes_;
  std::vector<Frame> views_;
};

constexpr const char* kSeven = "0000000000000007";
constexpr const char* kEnd = "ffffffffffffffff";

TEST_F(FramesTest, ReadsALiveMessage) {
  const auto batch = read_live_frames(frames({"746f", "0102030405060708", "c0c1"}));
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->seq, 0x0102030405060708U);
  EXPECT_EQ(batch->payload.size(), 2U);
}

TEST_F(FramesTest, ReadsTheSequenceBeforeAStreamId) {
  const auto batch =
      read_live_frames(frames({"", "000000000000000700112233445566778899aabbccddeeff", "c0"}));
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->seq, 7U);
}

TEST_F(FramesTest, RefusesWhatIsNoLiveMessage) {
  EXPECT_FALSE(read_live_frames({}));
  EXPECT_FALSE(read_live_frames(frames({kSeven, "c0"})));
  EXPECT_FALSE(read_live_frames(frames({"", "07", "c0"})));
  EXPECT_FALSE(read_live_frames(frames({"", kEnd, "c0"})));
  EXPECT_FALSE(read_live_frames(frames({"", "", kSeven, "c0"})));
}

TEST_F(FramesTest, ReadsBothFormsOfAReplay) {
  for (const auto& hex : {std::vector<const char*>{"", kSeven, "c0c0"},
                          std::vector<const char*>{"", "", kSeven, "c0c0"},
                          std::vector<const char*>{"", "746f706963", kSeven, "c0c0"}}) {
    const ReplayReply reply = read_replay_frames(frames(hex));
    ASSERT_EQ(reply.kind, ReplayReply::Kind::batch) << hex.size();
    EXPECT_EQ(reply.batch.seq, 7U);
    EXPECT_EQ(reply.batch.payload.size(), 2U);
  }
}

TEST_F(FramesTest, ReadsEveryEndMark) {
  for (const auto& hex :
       {std::vector<const char*>{"", kEnd, ""}, std::vector<const char*>{"", "", "", kEnd},
        std::vector<const char*>{"", "", kEnd, ""},
        std::vector<const char*>{"", "746f", kSeven, ""}}) {
    EXPECT_EQ(read_replay_frames(frames(hex)).kind, ReplayReply::Kind::end) << hex.size();
  }
}

TEST_F(FramesTest, APayloadOfEightOnesIsStillABatch) {
  EXPECT_EQ(read_replay_frames(frames({"", kSeven, kEnd})).kind, ReplayReply::Kind::batch);
}

TEST_F(FramesTest, RefusesWhatIsNoReply) {
  for (const auto& hex :
       {std::vector<const char*>{}, std::vector<const char*>{""},
        std::vector<const char*>{"", kSeven}, std::vector<const char*>{"", "07", "c0"},
        std::vector<const char*>{"", "", "", kSeven, "c0"}}) {
    EXPECT_EQ(read_replay_frames(frames(hex)).kind, ReplayReply::Kind::malformed) << hex.size();
  }
}

TEST_F(FramesTest, WritesSequencesBigEndian) {
  std::array<std::byte, 8> bytes{};
  write_sequence(0x0102030405060708U, bytes);
  EXPECT_EQ(Payload(bytes.begin(), bytes.end()), from_hex("0102030405060708"));
}

}  // namespace
}  // namespace kvroute::detail
