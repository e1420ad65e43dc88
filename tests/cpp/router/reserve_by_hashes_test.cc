// Bookings of requests that were given as hashes.

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <vector>

#include "kvroute/hash/block_hash.h"
#include "router_fixture.h"

namespace kvroute {
namespace {

class ReserveByHashesTest : public ::testing::Test {
 protected:
  ReservationHandle reserve(std::size_t blocks) {
    Request request;
    request.by_hashes = true;
    request.local_hashes = std::span(hashes_).first(blocks);
    request.num_tokens = tokens_.size();
    return fixture_.router.reserve(request, "");
  }
  std::uint64_t active_blocks() {
    return fixture_.router.stats().targets.front().load.active_blocks();
  }
  std::uint64_t held_blocks() { return fixture_.router.stats().targets.front().held_blocks; }

  std::vector<std::uint32_t> tokens_ = tokens_from(0, 100);
  std::vector<std::uint32_t> output_ = tokens_from(500, 40);
  std::vector<std::uint64_t> hashes_ = hash_blocks(tokens_, 16, kHashSeed);
  RouterFixture fixture_;
};

TEST_F(ReserveByHashesTest, SharesItsBlocksWithOneByTokens) {
  fixture_.add(1);
  const ReservationHandle by_hashes = reserve(6);
  EXPECT_EQ(active_blocks(), 6U);
  const ReservationHandle by_tokens = fixture_.router.reserve(request_for(tokens_), "");
  EXPECT_EQ(active_blocks(), 6U);
  EXPECT_EQ(by_tokens.selection.cached_tokens, 96U);
  fixture_.router.release(by_hashes);
  EXPECT_EQ(active_blocks(), 6U);
  fixture_.router.release(by_tokens);
  EXPECT_EQ(active_blocks(), 0U);
}

TEST_F(ReserveByHashesTest, CountsBlocksWithoutHashesAsItsOwn) {
  fixture_.add(1);
  const ReservationHandle some = reserve(2);
  EXPECT_EQ(active_blocks(), 6U);
  EXPECT_EQ(held_blocks(), 2U);
  const ReservationHandle again = reserve(2);
  EXPECT_EQ(active_blocks(), 10U) << "only the known ones are shared";
  fixture_.router.release(some);
  EXPECT_EQ(active_blocks(), 6U);
  fixture_.router.release(again);
  EXPECT_EQ(active_blocks(), 0U);
}

TEST_F(ReserveByHashesTest, CountsThemAlsoWhenItExpires) {
  fixture_.add(1);
  (void)reserve(2);
  fixture_.clock->advance(601);
  const ReservationHandle whole = reserve(6);
  EXPECT_EQ(active_blocks(), 6U);
  fixture_.router.release(whole);
  EXPECT_EQ(active_blocks(), 0U);
}

TEST_F(ReserveByHashesTest, OfAnotherBlockSizeIsLoadAndNothingElse) {
  fixture_.router.add_worker({.name = 1,
                              .dp_ranks = 1,
                              .block_size = 32,
                              .kv_events = {},
                              .kv_replay = {},
                              .load_events = {},
                              .total_blocks = {},
                              .labels = {}});
  (void)fixture_.router.release(fixture_.router.reserve(request_for(tokens_), ""));
  EXPECT_EQ(held_blocks(), 3U);
  const ReservationHandle booked = reserve(6);
  EXPECT_EQ(booked.selection.cached_tokens, 0U);
  EXPECT_EQ(active_blocks(), 3U);
  fixture_.router.release(booked, output_);
  EXPECT_EQ(active_blocks(), 0U);
  EXPECT_EQ(held_blocks(), 3U);
}

TEST_F(ReserveByHashesTest, RemembersNoOutputAfterAnUnknownTail) {
  fixture_.add(1);
  fixture_.router.release(reserve(6), output_);
  EXPECT_EQ(held_blocks(), 6U);
}

TEST_F(ReserveByHashesTest, RemembersTheOutputAfterAWholePrompt) {
  fixture_.add(1);
  tokens_.resize(96);
  fixture_.router.release(reserve(6), output_);
  EXPECT_EQ(held_blocks(), 8U) << "39 tokens: two blocks, the last token was not computed";
  std::vector<std::uint32_t> both = tokens_;
  both.insert(both.end(), output_.begin(), output_.end());
  EXPECT_EQ(fixture_.router.select(request_for(both)).cached_tokens, 128U);
}

}  // namespace
}  // namespace kvroute
