#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "checked_tree.h"
#include "choices.h"
#include "event_generator.h"
#include "ever_held.h"
#include "unchecked_writer.h"

namespace kvroute::testing {
namespace {

constexpr Slot kShared = 200;  // slots from here on belong to no writer alone
constexpr Slot kSharedSlots = 3;

GeneratorOptions traffic(Slot first, Naming naming) {
  GeneratorOptions generator;
  generator.first_slot = first;
  generator.slots = kSharedSlots;
  generator.max_length = 60;
  generator.naming = naming;
  generator.snapshots = false;  // loading one is for a tree of one's own
  return generator;
}

/// A writer with slots of its own: the answers for these must be exact all the while.
struct Writer {
  Writer(PrefixTree& tree, const IndexOptions& index, const GeneratorOptions& generator,
         std::uint64_t seed)
      : choices(seed),
        events(choices, generator),
        checked(tree, index, generator.first_slot, generator.slots) {}

  void run(std::size_t steps, EverHeld& ever) {
    for (std::size_t step = 0; step < steps && !wrong; ++step) {
      const Op op = events.next();
      now = op.now;
      if (op.kind == OpKind::kExpire) continue;  // would reach into the other writers' slots
      ever.add(op);
      wrong = checked.apply(op);
    }
  }

  Choices choices;
  EventGenerator events;
  CheckedTree checked;
  Nanoseconds now = 0;
  std::optional<std::string> wrong;
};

/// Threads that do the same thing over and over, until it is called off.
class Repeating {
 public:
  void start(std::function<void()> once) {
    threads_.emplace_back([this, once = std::move(once)] {
      while (!done_.load()) once();
    });
  }
  void join() {
    done_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::atomic<bool> done_{false};
  std::vector<std::thread> threads_;
};

/// A reader that counts the depths above what was ever held.
struct Reader {
  Reader(const PrefixTree& asked, const EverHeld& bound, std::uint64_t seed)
      : tree(asked), ever(bound), choices(seed), requests(choices, traffic(0, Naming::kAgree)) {}

  void operator()() {
    const auto labels = requests.request();
    tree.match(labels, overlaps);
    above += ever.above(overlaps, labels);
  }

  const PrefixTree& tree;
  const EverHeld& ever;
  Choices choices;
  EventGenerator requests;
  Overlaps overlaps;
  std::size_t above = 0;
};

/// A snapshot can be taken at any time, and what is loaded from it is whole and was held.
struct Saver {
  void operator()() {
    PrefixTree loaded;
    loaded.restore(tree.snapshot(0), 0);
    if (const auto violated = loaded.audit()) wrong = violated;
    loaded.for_each_held([&](const HeldChain& chain) {
      for (const std::uint64_t label : chain.local_hashes) {
        if (!ever.contains(chain.slot, label)) wrong = "a snapshot has what nobody held";
      }
    });
  }

  const PrefixTree& tree;
  const EverHeld& ever;
  std::optional<std::string> wrong;
};

/// Lets everything expire that is due; what the tree lets go must be what the models do.
void expire_all(PrefixTree& tree, std::vector<std::unique_ptr<Writer>>& writers) {
  Nanoseconds now = 0;
  for (const auto& writer : writers) now = std::max(now, writer->now);
  std::size_t expected = 0;
  for (auto& writer : writers) expected += writer->checked.expire_model(now);
  std::size_t expired = 0;
  while (const std::size_t some = tree.expire(now)) expired += some;
  EXPECT_EQ(expired, expected);
}

void expect_exact(const IndexStats& got, const std::vector<std::unique_ptr<Writer>>& writers) {
  std::size_t exact = 0;
  std::size_t lower = 0;
  std::size_t predicted = 0;
  std::size_t waiting = 0;
  for (const auto& writer : writers) {
    const IndexStats stats = writer->checked.expected();
    exact += stats.held_exact;
    lower += stats.held_lower;
    predicted += stats.held_predicted;
    waiting += stats.waiting;
  }
  EXPECT_EQ(got.held_exact, exact);
  EXPECT_EQ(got.held_lower, lower);
  EXPECT_EQ(got.held_predicted, predicted);
  EXPECT_EQ(got.waiting, waiting);
}

/// Three writers with slots of their own; a fourth whose slots others clear and release; readers
/// and one who saves.
void disturb_each_other(Naming naming) {
  IndexOptions index;
  index.predicted_ttl_seconds = 20;
  PrefixTree tree(index);
  EverHeld ever;
  std::vector<std::unique_ptr<Writer>> writers;
  for (std::uint32_t i = 0; i < 3; ++i) {
    writers.push_back(std::make_unique<Writer>(tree, index, traffic(i * 40, naming), i + 1));
  }
  UncheckedWriter fourth(tree, traffic(kShared, naming), 4);
  Reader first_reader(tree, ever, 1000);
  Reader second_reader(tree, ever, 1001);
  Saver saver{tree, ever, std::nullopt};
  Choices which(5);

  for (int round = 0; round < 6; ++round) {
    Repeating others;
    others.start([&] { first_reader(); });
    others.start([&] { second_reader(); });
    others.start([&] { saver(); });
    others.start([&] {
      const Slot slot = kShared + which.below(kSharedSlots);
      which.one_in(2) ? tree.clear(slot) : tree.release_slot(slot);
    });
    std::vector<std::thread> threads;
    for (auto& writer : writers) {
      threads.emplace_back([&ever, &writer] { writer->run(400, ever); });
    }
    threads.emplace_back([&] { fourth.run(400, ever); });
    for (std::thread& thread : threads) thread.join();
    others.join();
    fourth.unpin_all();
    for (Slot slot = kShared; slot < kShared + kSharedSlots; ++slot) {
      tree.release_slot(slot);
      EXPECT_EQ(tree.held_blocks(slot), 0U);
    }

    EXPECT_EQ(first_reader.above + second_reader.above, 0U) << "seen, but never held";
    ASSERT_EQ(saver.wrong, std::nullopt) << *saver.wrong;
    ASSERT_EQ(tree.audit(), std::nullopt);
    for (const auto& writer : writers) ASSERT_EQ(writer->wrong, std::nullopt) << *writer->wrong;
    expire_all(tree, writers);
    expect_exact(tree.stats(), writers);
    for (const auto& writer : writers) {
      const auto wrong = writer->checked.check_slots();
      ASSERT_EQ(wrong, std::nullopt) << *wrong;
    }
  }
}

TEST(Concurrency, WritersOfOtherSlotsAndReadersNeverDisturbAnAnswer) {
  disturb_each_other(Naming::kAgree);
}

TEST(Concurrency, NorWhereEnginesNameBlocksDifferently) { disturb_each_other(Naming::kPartly); }

TEST(Concurrency, AMemoryLimitHoldsUnderSeveralWriters) {
  constexpr std::size_t kLimit = std::size_t{1} << 20;
  PrefixTree tree({.memory_limit = kLimit});
  EverHeld ever;
  std::vector<std::unique_ptr<UncheckedWriter>> writers;
  for (std::uint32_t i = 0; i < 3; ++i) {
    GeneratorOptions generator = traffic(i * 40, i == 0 ? Naming::kOwn : Naming::kAgree);
    generator.slots = 12;
    generator.max_length = 400;
    generator.capacity = 20'000;
    writers.push_back(std::make_unique<UncheckedWriter>(tree, generator, i + 1));
  }
  Reader reader(tree, ever, 1000);
  for (int round = 0; round < 3; ++round) {
    Repeating others;
    others.start([&] { reader(); });
    std::vector<std::thread> threads;
    for (auto& writer : writers) {
      threads.emplace_back([&ever, &writer] { writer->run(600, ever); });
    }
    for (std::thread& thread : threads) thread.join();
    others.join();
    EXPECT_EQ(reader.above, 0U) << "seen, but never held";
    ASSERT_EQ(tree.audit(), std::nullopt);
    for (auto& writer : writers) writer->unpin_all();
    tree.store(0, std::nullopt, std::vector<std::uint64_t>{1}, std::vector<std::uint64_t>{1});
    EXPECT_LE(tree.stats().bytes.total(), kLimit);
  }
  EXPECT_GT(tree.stats().forgotten_exact, 0U);
}

}  // namespace
}  // namespace kvroute::testing
