#include "kvroute/index/prefix_index.h"

#include <atomic>
#include <thread>

#include "named_content.h"

namespace kvroute::testing {
namespace {

const TargetId kA{"a", 0};
const TargetId kA1{"a", 1};
const TargetId kB{std::int64_t{7}, 0};

PrefixIndex make_index() { return PrefixIndex(IndexOptions{}); }

TEST(PrefixIndex, AnswersByTheNamesThatWereGiven) {
  PrefixIndex index = make_index();
  const Hashes chain = hashes(6);
  fill(index, kA, part(chain, 0, 4));
  fill(index, kA1, part(chain, 0, 2));
  fill(index, kB, chain);
  EXPECT_THAT(index.match(chain), ElementsAre(Pair(kA, 4), Pair(kA1, 2), Pair(kB, 6)));
  EXPECT_THAT(index.targets(), ElementsAre(kA, kA1, kB));
  EXPECT_THAT(index.match(hashes(3, 9)), IsEmpty());
  EXPECT_EQ(index.audit(), std::nullopt);
}

TEST(PrefixIndex, ATargetThatHasStoredNothingKnowsNothing) {
  PrefixIndex index = make_index();
  EXPECT_EQ(index.remove(kA, hashes(3)).unknown, 3U);
  EXPECT_EQ(index.store_known(kA, hashes(2), Tier::host).unknown, 2U);
  index.clear(kA.worker, std::nullopt);
  EXPECT_THAT([&] { index.remove_worker(kA.worker); },
              ThrowsMessage<UnknownWorker>(HasSubstr("worker: expected one that has stored")));
  EXPECT_THAT(index.targets(), IsEmpty());
}

TEST(PrefixIndex, ClearTakesOneRankOrAll) {
  PrefixIndex index = make_index();
  const Hashes chain = hashes(3);
  for (const TargetId& target : {kA, kA1, kB}) fill(index, target, chain);
  index.clear(kA.worker, 1);
  EXPECT_THAT(index.match(chain), ElementsAre(Pair(kA, 3), Pair(kB, 3)));
  index.clear(kA.worker, std::nullopt);
  EXPECT_THAT(index.match(chain), ElementsAre(Pair(kB, 3)));
  EXPECT_THAT(index.targets(), ElementsAre(kA, kA1, kB));
  EXPECT_EQ(index.audit(), std::nullopt);
}

TEST(PrefixIndex, ARemovedWorkersSlotServesAnotherFromItsOwnStart) {
  PrefixIndex index = make_index();
  const Hashes chain = hashes(5);
  fill(index, kA, chain);
  fill(index, kB, chain);
  index.remove_worker(kA.worker);
  EXPECT_THAT(index.match(chain), ElementsAre(Pair(kB, 5)));
  fill(index, {"c", 0}, part(chain, 0, 1));
  EXPECT_THAT(index.match(chain), ElementsAre(Pair(TargetId{"c", 0}, 1), Pair(kB, 5)));
  EXPECT_EQ(index.stats().held_exact, 6U);
  fill(index, kA, part(chain, 0, 2));  // the same name again knows nothing of its former life
  EXPECT_THAT(index.match(chain), ElementsAre(Pair(TargetId{"c", 0}, 1), Pair(kB, 5), Pair(kA, 2)));
  EXPECT_EQ(index.audit(), std::nullopt);
}

TEST(PrefixIndex, ASlotServesNobodyWhileItIsSwept) {
  for (int round = 0; round < 10; ++round) {
    PrefixIndex index = make_index();
    fill_much(index, kA);
    while_removing(index, kA, [&] {
      for (std::uint64_t family = 1; family <= 50; ++family) fill(index, kB, hashes(4, family));
    });
    for (std::uint64_t family = 1; family <= 50; ++family) {
      ASSERT_THAT(index.match(hashes(4, family)), ElementsAre(Pair(kB, 4)));
    }
    ASSERT_EQ(index.audit(), std::nullopt);
  }
}

TEST(PrefixIndex, ManyRequestsAreAnsweredAsEachByItself) {
  PrefixIndex index = make_index();
  const Hashes one = hashes(4, 1);
  const Hashes other = hashes(4, 2);
  fill(index, kA, one);
  fill(index, kB, part(other, 0, 2));
  const Hashes none;
  const std::vector<std::span<const std::uint64_t>> requests = {one, none, other};
  EXPECT_THAT(index.match_many(requests),
              ElementsAre(ElementsAre(Pair(kA, 4)), IsEmpty(), ElementsAre(Pair(kB, 2))));
}

TEST(PrefixIndex, OverlapsListEveryTarget) {
  PrefixIndex index = make_index();
  const Hashes chain = hashes(4);
  fill(index, kA, chain);
  fill(index, kB, hashes(2, 9));
  const TargetDepths found = index.overlaps(chain);
  EXPECT_THAT(found.targets, ElementsAre(kA, kB));
  for (const auto& depths : found.depths) EXPECT_THAT(depths, ElementsAre(4, 0));
}

TEST(PrefixIndex, ABatchIsAppliedInItsOrder) {
  PrefixIndex index = make_index();
  const Hashes chain = hashes(4);
  const Hashes head = part(chain, 0, 2);
  const Hashes tail = part(chain, 2, 4);
  using Kind = IndexEvent::Kind;
  std::vector<IndexEvent> events(5);
  events[0] = {.target = kA, .engine_hashes = head, .local_hashes = head};
  events[1] = {.target = kA, .parent = head[1], .engine_hashes = tail, .local_hashes = tail};
  events[2] = {.target = kA, .engine_hashes = head, .local_hashes = head};
  events[3] = {.kind = Kind::remove, .target = kA, .engine_hashes = tail};
  events[4] = {.kind = Kind::remove, .target = kB, .engine_hashes = head};
  const ApplyResult result = index.apply(events);
  EXPECT_EQ(result.stored, 4U);
  EXPECT_EQ(result.duplicates, 2U);
  EXPECT_EQ(result.removed, 2U);
  EXPECT_EQ(result.unknown, 2U);
  EXPECT_EQ(result.waiting, 0U);
  EXPECT_THAT(index.match(chain), ElementsAre(Pair(kA, 2)));
  const IndexEvent clear{.kind = Kind::clear, .target = kA};
  (void)index.apply({&clear, 1});
  EXPECT_THAT(index.match(chain), IsEmpty());
}

TEST(PrefixIndex, ABatchWithAMistakeChangesNothing) {
  PrefixIndex index = make_index();
  const Hashes chain = hashes(4);
  std::vector<IndexEvent> events(2);
  events[0] = {.target = kA, .engine_hashes = chain, .local_hashes = chain};
  events[1] = {.target = kA,
               .engine_hashes = chain,
               .local_hashes = std::span<const std::uint64_t>(chain).first(3)};
  EXPECT_THAT([&] { (void)index.apply(events); },
              ThrowsMessage<InvalidArgument>(HasSubstr(
                  "events[1].local_hashes: expected as many as engine_hashes (4), got 3")));
  EXPECT_THAT(index.targets(), IsEmpty());
}

TEST(PrefixIndex, OneTargetTooManyIsRefusedByName) {
  PrefixIndex index = make_index();
  const Hashes chain = hashes(1);
  for (std::uint32_t rank = 0; rank < kMaxTargets; ++rank) fill(index, {"w", rank}, chain);
  EXPECT_THAT([&] { fill(index, kB, chain); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("worker: expected at most 4096 targets, got one more: 7 rank 0")));
  index.remove_worker("w");
  fill(index, kB, chain);
  EXPECT_THAT(index.match(chain), ElementsAre(Pair(kB, 1)));
  EXPECT_EQ(index.audit(), std::nullopt);
}

// Names come and go, and are cleared, while others store and match: nobody sees another's blocks.
TEST(PrefixIndex, WorkersFlapWhileOthersStoreAndMatch) {
  PrefixIndex index = make_index();
  const Hashes ours = hashes(64, 1);
  const Hashes theirs = hashes(64, 2);
  const TargetId steady{"steady", 0};
  fill(index, steady, ours);
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int n = 0; n < 2; ++n) {
    threads.emplace_back([&, name = "flap" + std::to_string(n)] {
      for (int round = 0; round < 300; ++round) {
        fill(index, {name, 0}, theirs);
        fill(index, {name, 1}, part(theirs, 0, 32));
        index.clear(name, 0);
        index.remove_worker(name);
      }
    });
  }
  threads.emplace_back([&] {
    while (!stop) {
      index.clear("flap0", std::nullopt);
      (void)index.remove(steady, part(ours, 63, 64));
      fill(index, steady, ours);
    }
  });
  threads.emplace_back([&] {
    while (!stop) {
      for (const auto& [target, depth] : index.match(theirs)) wrong += target == steady;
      const auto found = index.match(ours);
      wrong += found.size() != 1 || found[0].first != steady || found[0].second < 63;
    }
  });
  threads[0].join();
  threads[1].join();
  stop = true;
  threads[2].join();
  threads[3].join();
  EXPECT_EQ(wrong, 0);
  EXPECT_THAT(index.targets(), ElementsAre(steady));
  EXPECT_THAT(index.match(theirs), IsEmpty());
  EXPECT_EQ(index.audit(), std::nullopt);
}

}  // namespace
}  // namespace kvroute::testing
