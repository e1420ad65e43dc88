// Whatever threads do to one index at the same time, replacing its content and changing its limit
// included, leaves an index in order. What the answers are is concurrency_test.cc's business.

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "choices.h"
#include "named_content.h"

namespace kvroute::testing {
namespace {

constexpr Nanoseconds kSecond = 1'000'000'000;
constexpr int kWriters = 3;

/// Labels that part in few places.
Hashes some_request(Choices& choices) {
  Hashes labels;
  std::uint64_t path = choices.below(3);
  for (std::uint32_t left = 1 + choices.below(60); left > 0; --left) {
    if (choices.one_in(12)) path = path * 3 + choices.below(2) + 1;
    labels.push_back(path * 1'000 + labels.size());
  }
  return labels;
}

void do_anything(PrefixTree& tree, Choices& choices) {
  const Hashes labels = some_request(choices);
  Hashes names = labels;
  if (choices.one_in(20)) names.back() += 77 * choices.below(kWriters);
  const Slot slot = choices.below(8);
  const auto tier = static_cast<Tier>(choices.below(kTiers));
  const Nanoseconds now = choices.below(2'000) * kSecond;
  switch (choices.below(14)) {
    case 0: tree.remove(slot, names, tier); break;
    case 1: tree.predict(slot, labels, now / 2); break;
    case 2: tree.expire(now); break;
    case 3: tree.clear(slot); break;
    case 4: tree.store_known(slot, names, tier); break;
    case 5: tree.unpin(slot, tree.pin(slot, labels).pin); break;
    case 6: tree.release_slot(slot); break;
    case 7: {
      const std::size_t half = labels.size() / 2;  // waits, or is attached in the middle
      tree.store(slot, labels[half / 2], part(names, half, names.size()),
                 part(labels, half, labels.size()), 0, tier);
      break;
    }
    case 8: static_cast<void>(tree.namespace_seed_of(slot, names[0])); break;
    case 9: tree.set_capacity(slot, choices.one_in(2) ? std::optional(200U) : std::nullopt); break;
    default: tree.store(slot, std::nullopt, names, labels, 0, tier); break;
  }
}

/// Saves and loads the tree itself, mostly while others are at work.
void replace(PrefixTree& tree, Choices& choices) {
  const std::string saved = tree.snapshot(0);
  try {
    tree.restore(saved, 0);
  } catch (const InvalidArgument& refused) {
    EXPECT_THAT(refused.what(), HasSubstr("while nothing is pinned"));
  }
  tree.set_memory_limit(choices.one_in(2) ? std::optional(std::size_t{1} << 20) : std::nullopt);
  tree.for_each_held([](const HeldChain& chain) { EXPECT_FALSE(chain.local_hashes.empty()); });
  EXPECT_EQ(tree.audit(), std::nullopt);
}

/// Three threads that call `write`, and two that call `once` until those are done.
template <typename Write, typename Once>
void all_at_once(int steps, Write write, Once once) {
  std::atomic<int> writing = kWriters;
  std::vector<std::thread> threads;
  for (int n = 0; n < kWriters; ++n) {
    threads.emplace_back([&, n] {
      Choices choices(static_cast<std::uint64_t>(n) + 1);
      for (int step = 0; step < steps; ++step) write(choices);
      --writing;
    });
  }
  for (int n = 0; n < 2; ++n) {
    threads.emplace_back([&, n] {
      Choices choices(static_cast<std::uint64_t>(n) + 100);
      while (writing > 0) once(n, choices);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(EverythingAtOnce, LeavesATreeInOrder) {
  PrefixTree tree;
  all_at_once(
      1'500, [&](Choices& choices) { do_anything(tree, choices); },
      [&](int which, Choices& choices) {
        Overlaps overlaps;
        which == 0 ? replace(tree, choices) : tree.match(some_request(choices), overlaps);
      });
  EXPECT_EQ(tree.audit(), std::nullopt);
}

void do_anything(PrefixIndex& index, Choices& choices) {
  TargetId target;
  target.worker = choices.one_in(2) ? WorkerName(std::int64_t{choices.below(4)})
                                    : WorkerName("w" + std::to_string(choices.below(4)));
  target.dp_rank = choices.below(2);
  const Hashes labels = some_request(choices);
  const auto tier = static_cast<Tier>(choices.below(kTiers));
  switch (choices.below(9)) {
    case 0: (void)index.remove(target, labels); break;
    case 1: index.clear(target.worker, std::nullopt); break;
    case 2: try { index.remove_worker(target.worker);
      } catch (const UnknownWorker&) {  // another was first
        break;
      }
      break;
    case 3: (void)index.overlaps(labels); break;
    case 4: (void)index.targets(); break;
    case 5: (void)index.store_known(target, labels, tier); break;
    case 6: (void)index.store(target, 99, labels, labels); break;
    default: (void)index.store(target, std::nullopt, labels, labels, tier); break;
  }
}

TEST(EverythingAtOnce, LeavesANamedIndexInOrder) {
  PrefixIndex index{IndexOptions{}};
  std::string kept = index.snapshot();
  all_at_once(
      1'500, [&](Choices& choices) { do_anything(index, choices); },
      [&](int which, Choices& choices) {
        if (which == 1) {
          (void)index.match(some_request(choices));
          return;
        }
        std::string saved = index.snapshot();
        if (choices.one_in(4)) kept = saved;
        index.restore(choices.one_in(2) ? saved : kept);
        EXPECT_EQ(index.audit(), std::nullopt);
        index.for_each_held([](const TargetId&, const HeldChain& chain) {
          EXPECT_FALSE(chain.local_hashes.empty());
        });
      });
  EXPECT_EQ(index.audit(), std::nullopt);
}

}  // namespace
}  // namespace kvroute::testing
