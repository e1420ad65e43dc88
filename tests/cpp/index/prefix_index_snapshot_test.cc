#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "kvroute/base/random.h"
#include "kvroute/hash/block_hash.h"
#include "named_content.h"

namespace kvroute::testing {
namespace {

using ::testing::StartsWith;

const TargetId kText{"wörker", 3};
const TargetId kNumber{std::int64_t{-7}, 0};

/// Random content of several targets: common beginnings, holes, tiers, chains that wait.
void fill_at_random(PrefixIndex& index, std::uint64_t seed) {
  Random random(seed);
  for (const TargetId& target : {kText, kNumber, TargetId{std::int64_t{1} << 62, 1}}) {
    for (int chain = 0; chain < 20; ++chain) {
      const Hashes path = hashes(1 + random.below(30), 1 + random.below(4));
      const std::size_t begin = random.below(4) == 0 ? random.below(path.size()) : 0;
      const Hashes names = part(path, begin, path.size());
      const auto parent = begin > 0 ? std::optional(path[begin - 1]) : std::nullopt;
      (void)index.store(target, parent, names, names, static_cast<Tier>(random.below(kTiers)));
      (void)index.remove(target, part(names, names.size() / 2, names.size() / 2 + 1));
    }
  }
}

void expect_equal(const PrefixIndex& left, const PrefixIndex& right) {
  EXPECT_EQ(left.targets(), right.targets());
  for (std::uint64_t family = 1; family <= 4; ++family) {
    const Hashes request = hashes(30, family);
    EXPECT_EQ(left.overlaps(request).depths, right.overlaps(request).depths);
  }
  EXPECT_EQ(left.stats().held_exact, right.stats().held_exact);
  EXPECT_EQ(left.stats().held_lower, right.stats().held_lower);
  EXPECT_EQ(left.stats().waiting, right.stats().waiting);
}

/// With the checksum of its bytes as they are now.
std::string resealed(std::string snapshot) {
  const std::uint64_t sum = hash_identifier({snapshot.data(), snapshot.size() - sizeof(sum)});
  std::memcpy(snapshot.data() + snapshot.size() - sizeof(sum), &sum, sizeof(sum));
  return snapshot;
}

std::string with_byte(std::string snapshot, std::size_t at, unsigned char value) {
  snapshot[at] = static_cast<char>(value);
  return snapshot;
}

TEST(PrefixIndexSnapshot, GivesAnEqualIndex) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    PrefixIndex index{IndexOptions{}};
    PrefixIndex again{IndexOptions{}};
    fill_at_random(index, seed);
    fill_at_random(again, seed + 100);
    again.restore(index.snapshot());
    expect_equal(again, index);
    EXPECT_EQ(again.audit(), std::nullopt);
    fill_at_random(index, seed + 200);  // and they go on alike
    fill_at_random(again, seed + 200);
    expect_equal(again, index);
    EXPECT_EQ(again.audit(), std::nullopt);
  }
}

TEST(PrefixIndexSnapshot, KeepsTargetsInTheirOrderAndFreeSlotsFree) {
  PrefixIndex index{IndexOptions{}};
  const Hashes chain = hashes(4);
  for (const char* worker : {"a", "b", "c"}) {
    fill(index, {worker, 0}, chain);
  }
  index.remove_worker("b");
  PrefixIndex again{IndexOptions{}};
  again.restore(index.snapshot());
  (void)again.store({"d", 0}, std::nullopt, part(chain, 0, 1), part(chain, 0, 1));
  EXPECT_THAT(again.match(chain), ElementsAre(Pair(TargetId{"a", 0}, 4), Pair(TargetId{"d", 0}, 1),
                                              Pair(TargetId{"c", 0}, 4)));
  EXPECT_EQ(again.audit(), std::nullopt);
}

TEST(PrefixIndexSnapshot, ForEachHeldTellsTheSameAsASnapshot) {
  PrefixIndex index{IndexOptions{}};
  fill_at_random(index, 5);
  PrefixIndex again{IndexOptions{}};
  index.for_each_held([&](const TargetId& target, const HeldChain& chain) {
    (void)again.store(target, chain.parent, chain.engine_hashes, chain.local_hashes, chain.tier);
  });
  for (std::uint64_t family = 1; family <= 4; ++family) {
    const Hashes request = hashes(30, family);
    const TargetDepths found = index.overlaps(request);
    const TargetDepths other = again.overlaps(request);
    for (std::size_t i = 0; i < other.targets.size(); ++i) {
      const auto at = std::find(found.targets.begin(), found.targets.end(), other.targets[i]);
      ASSERT_NE(at, found.targets.end());
      for (std::size_t tier = 0; tier < kTiers; ++tier) {
        EXPECT_EQ(other.depths[tier][i],
                  found.depths[tier][static_cast<std::size_t>(at - found.targets.begin())]);
      }
    }
  }
}

TEST(PrefixIndexSnapshot, EveryChangedByteIsFoundAndChangesNothing) {
  PrefixIndex index{IndexOptions{}};
  fill_at_random(index, 1);
  const std::string good = index.snapshot();
  PrefixIndex other{IndexOptions{}};
  fill_at_random(other, 2);
  PrefixIndex unchanged{IndexOptions{}};
  fill_at_random(unchanged, 2);
  for (std::size_t at = 0; at < good.size(); ++at) {
    const auto byte = static_cast<unsigned char>(good[at]);
    for (const unsigned bit : {1U, 128U}) {
      const std::string bad = with_byte(good, at, static_cast<unsigned char>(byte ^ bit));
      EXPECT_THAT([&] { other.restore(bad); },
                  ThrowsMessage<InvalidArgument>(StartsWith("snapshot: expected")));
    }
  }
  for (std::size_t size = 0; size < good.size(); size += 1 + size / 8) {
    EXPECT_THROW(other.restore(std::string_view(good).substr(0, size)), InvalidArgument);
  }
  expect_equal(other, unchanged);
}

// Bytes that carry a right checksum and were never written by an index.
TEST(PrefixIndexSnapshot, MalformedBytesUnderARightChecksumAreRefused) {
  PrefixIndex index{IndexOptions{}};
  const Hashes chain = hashes(4);
  fill(index, {"a", 0}, chain);
  fill(index, {"b", 0}, chain);
  const std::string good = index.snapshot();
  EXPECT_EQ(resealed(good), good);
  constexpr std::size_t kCount = 12;
  constexpr std::size_t kFirst = kCount + 4;  // kind, rank, length and text of "a"
  constexpr std::size_t kSecond = kFirst + 10;
  ASSERT_EQ(good[kFirst + 9], 'a');
  ASSERT_EQ(good[kSecond + 9], 'b');
  const std::pair<std::string, const char*> cases[] = {
      {with_byte(good, kCount + 1, 0x20), "at most 4096 targets, got 8194"},
      {with_byte(good, kFirst, 9), "a kind of name, got 9"},
      {with_byte(good, kSecond + 9, 'a'), "each target once, got \"a\" rank 0 twice"},
      {with_byte(good, kSecond + 8, 0xff), "further bytes"},
      {good.substr(0, kSecond + 8), "further bytes"},
      {std::string(good).insert(good.size() - 8, 3, '\0'), "its end after the tree"},
      {with_byte(good, kSecond + 10 + 8, 'x'), "snapshot: "},  // the tree's own beginning
  };
  for (const auto& [bytes, message] : cases) {
    const std::string bad = resealed(bytes);
    EXPECT_THAT([&] { index.restore(bad); }, ThrowsMessage<InvalidArgument>(HasSubstr(message)));
  }
  EXPECT_EQ(index.match(chain).size(), 2U);
  EXPECT_EQ(index.audit(), std::nullopt);
}

// Blocks of a slot whose target was being removed come back for nobody.
TEST(PrefixIndexSnapshot, BlocksWithoutATargetAreDropped) {
  PrefixIndex index{IndexOptions{}};
  const Hashes chain = hashes(4);
  fill(index, {"a", 0}, chain);
  std::string snapshot = index.snapshot();
  snapshot.erase(17, 9);  // rank, length and text of the one target
  snapshot[16] = 0;
  PrefixIndex again{IndexOptions{}};
  again.restore(resealed(snapshot));
  EXPECT_THAT(again.targets(), IsEmpty());
  EXPECT_EQ(again.stats().held_exact, 0U);
  EXPECT_EQ(again.audit(), std::nullopt);
}

/// An index of one target "a" whose tree is `tree`.
std::string with_tree(const std::string& tree) {
  PrefixIndex index{IndexOptions{}};
  fill(index, {"a", 0}, hashes(1));
  std::string snapshot = index.snapshot();
  const auto size = std::uint64_t{tree.size()};
  snapshot.resize(26);  // up to the text of "a"
  snapshot.append(reinterpret_cast<const char*>(&size), sizeof(size));
  return resealed(snapshot + tree + std::string(8, '\0'));
}

TEST(PrefixIndexSnapshot, WhatNoIndexHoldsIsRefused) {
  PrefixTree waits;
  (void)waits.store(1, 7, hashes(3), hashes(3));
  PrefixTree holds;
  (void)holds.store(1, std::nullopt, hashes(3), hashes(3));
  PrefixTree predicts;
  (void)predicts.predict(0, hashes(3), 0);
  std::string far_chain = PrefixTree().snapshot(0);  // which ends with the number of its chains
  far_chain.resize(far_chain.size() - 9);
  far_chain += '\1';              // chain
  far_chain.append("\5\0\1", 3);  // of slot 5, on the device, one block
  far_chain.append(32, '\1');     // parent, seed, name, label
  far_chain.append(9, '\0');      // not gone; checksum
  const std::pair<std::string, const char*> cases[] = {
      {waits.snapshot(0), "a tree of 1 slots, got 2"},
      {holds.snapshot(0), "a tree of 1 slots, got 2"},
      {resealed(far_chain), "chains that wait for a slot of the index, got 1 blocks for another"},
      {predicts.snapshot(0), "no predictions, got 3 blocks"},
  };
  PrefixIndex index{IndexOptions{}};
  for (const auto& [tree, message] : cases) {
    const std::string bad = with_tree(tree);
    EXPECT_THAT([&] { index.restore(bad); }, ThrowsMessage<InvalidArgument>(HasSubstr(message)));
  }
  index.restore(with_tree(PrefixTree().snapshot(0)));
  EXPECT_THAT(index.targets(), ElementsAre(TargetId{"a", 0}));
}

TEST(PrefixIndexSnapshot, NamesAreUtf8) {
  const auto named = [](const std::string& name) {
    PrefixIndex index{IndexOptions{}};
    fill(index, {name, 0}, hashes(1));
    return index.snapshot();
  };
  PrefixIndex index{IndexOptions{}};
  for (const char* good : {"", "a", "w\xc3\xb6rker", "\xe2\x82\xac", "\xed\x9f\xbf", "\xee\x80\x80",
                           "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    index.restore(named(good));
    EXPECT_THAT(index.targets(), ElementsAre(TargetId{good, 0}));
  }
  for (const char* bad : {"\xff\xfe", "\x80", "\xc3", "\xc0\x80", "\xc1\xbf", "\xe2\x82",
                          "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
                          "\xf5\x80\x80\x80", "\xc3(", "a\xbf"}) {
    EXPECT_THAT([&] { index.restore(named(bad)); },
                ThrowsMessage<InvalidArgument>(HasSubstr("names in UTF-8")));
  }
}

TEST(PrefixIndexSnapshot, ASweepOfFormerContentKeepsNoSlotFromServing) {
  const Hashes chain = hashes(4);
  for (int round = 0; round < 4; ++round) {
    PrefixIndex index{IndexOptions{}};
    fill(index, kText, chain);
    fill(index, kNumber, chain);
    const std::string saved = index.snapshot();
    fill_much(index, {"other", 0});
    for (std::uint32_t rank = 10; rank < 200; ++rank) {  // each to be searched for in all of that
      fill(index, {kText.worker, rank}, hashes(1, 9));
    }
    while_removing(index, kText, [&] { index.restore(saved); });
    index.remove_worker(kText.worker);
    fill(index, {"third", 0}, chain);
    ASSERT_THAT(index.targets(), ElementsAre(TargetId{"third", 0}, kNumber));
    ASSERT_EQ(index.audit(), std::nullopt);
  }
}

// Workers that follow each other in one slot, each with content of its own, before very many whose
// names take a while to be written.
TEST(PrefixIndexSnapshot, NamesAndBlocksAreOfOneMoment) {
  PrefixIndex index{IndexOptions{}};
  fill(index, {std::int64_t{1}, 0}, hashes(4, 1));
  for (std::uint32_t rank = 0; rank < 3'000; ++rank) {
    fill(index, {std::string(200, 'x'), rank}, hashes(1, 1'000'000));
  }
  std::atomic<bool> stop = false;
  std::thread flapping([&] {
    for (std::int64_t family = 2; !stop; ++family) {
      index.remove_worker(family - 1);
      fill(index, {family, 0}, hashes(4, static_cast<std::uint64_t>(family)));
    }
  });
  std::size_t wrong = 0;
  for (int round = 0; round < 100; ++round) {
    PrefixIndex again{IndexOptions{}};
    again.restore(index.snapshot());
    again.for_each_held([&](const TargetId& target, const HeldChain& chain) {
      const auto* const family = std::get_if<std::int64_t>(&target.worker);
      if (family == nullptr) return;
      wrong += chain.local_hashes[0] != hashes(1, static_cast<std::uint64_t>(*family))[0];
    });
  }
  stop = true;
  flapping.join();
  EXPECT_EQ(wrong, 0U);
}

TEST(PrefixIndexSnapshot, MatchesSeeOneContentOrTheOther) {
  PrefixIndex index{IndexOptions{}};
  const Hashes chain = hashes(64);
  const TargetId steady{"steady", 0};
  fill(index, steady, chain);
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    while (!stop) {
      const auto found = index.match(chain);
      wrong += found.empty() || found[0] != std::pair(steady, std::uint32_t{64});
    }
  });
  threads.emplace_back([&] {
    const Hashes other = hashes(64, 2);
    while (!stop) {
      fill(index, {"flap", 0}, other);
      index.clear("flap", 0);
      try {
        index.remove_worker("flap");
      } catch (const UnknownWorker&) {  // content without it was restored meanwhile
        continue;
      }
    }
  });
  threads.emplace_back([&] {
    while (!stop) {
      index.for_each_held([&](const TargetId& target, const HeldChain& held) {
        wrong += target == steady && held.engine_hashes.size() != 64;
      });
    }
  });
  for (int round = 0; round < 100; ++round) index.restore(index.snapshot());
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(index.audit(), std::nullopt);
}

}  // namespace
}  // namespace kvroute::testing
