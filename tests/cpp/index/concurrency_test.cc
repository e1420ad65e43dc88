#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "checked_tree.h"

namespace kvroute::testing {
namespace {

/// Labels that each slot may hold or have pinned by now. The generator's labels name their whole
/// prefix, so one label stands for one block of one path.
class EverHeld {
 public:
  void add(Slot slot, const std::vector<std::uint64_t>& labels) {
    const std::scoped_lock lock(mutex_);
    if (slot >= slots_.size()) slots_.resize(slot + 1);
    slots_[slot].insert(labels.begin(), labels.end());
  }
  [[nodiscard]] bool contains(Slot slot, std::uint64_t label) const {
    const std::scoped_lock lock(mutex_);
    return slot < slots_.size() && slots_[slot].contains(label);
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::unordered_set<std::uint64_t>> slots_;
};

struct Writer {
  Writer(PrefixTree& tree, const IndexOptions& index, const GeneratorOptions& generator,
         std::uint64_t seed)
      : choices(seed),
        events(choices, generator),
        checked(tree, index, generator.first_slot, generator.slots) {}

  /// Applies operations; the answers for the writer's own slots must be exact all the while.
  void run(std::size_t steps, EverHeld& ever) {
    for (std::size_t step = 0; step < steps && !wrong; ++step) {
      Op op = events.next();
      now = op.now;
      if (op.kind == OpKind::kExpire) continue;  // would reach into the other writers' slots
      if (op.kind != OpKind::kMatch) ever.add(op.slot, op.labels);
      wrong = checked.apply(std::move(op));
    }
  }

  Choices choices;
  EventGenerator events;
  CheckedTree checked;
  Nanoseconds now = 0;
  std::optional<std::string> wrong;
};

TEST(Concurrency, WritersOfOtherSlotsAndReadersNeverDisturbAnAnswer) {
  IndexOptions index;
  index.predicted_ttl_seconds = 20;
  PrefixTree tree(index);
  EverHeld ever;
  constexpr std::uint32_t kWriters = 3;
  std::vector<std::unique_ptr<Writer>> writers;
  GeneratorOptions generator;
  generator.slots = 3;
  generator.max_length = 60;
  for (std::uint32_t i = 0; i < kWriters; ++i) {
    generator.first_slot = i * 40;
    writers.push_back(std::make_unique<Writer>(tree, index, generator, i + 1));
  }

  for (int round = 0; round < 6; ++round) {
    std::atomic<bool> done{false};
    std::atomic<std::uint64_t> above{0};
    std::vector<std::thread> readers;
    for (std::uint64_t seed = 0; seed < 2; ++seed) {
      readers.emplace_back([&, seed] {
        Choices choices(1000 + seed);
        EventGenerator requests(choices, generator);
        Overlaps overlaps;
        while (!done.load()) {
          const auto labels = requests.request();
          tree.match(labels, overlaps);
          for (Slot slot = 0; slot < overlaps.held.size(); ++slot) {
            for (const std::uint32_t depth : {overlaps.held[slot], overlaps.active[slot]}) {
              if (depth > 0 && !ever.contains(slot, labels[depth - 1])) ++above;
            }
          }
        }
      });
    }
    std::vector<std::thread> threads;
    for (auto& writer : writers) {
      threads.emplace_back([&ever, &writer] { writer->run(400, ever); });
    }
    for (std::thread& thread : threads) thread.join();
    done = true;
    for (std::thread& thread : readers) thread.join();

    EXPECT_EQ(above, 0U) << "a reader saw a block that was never held";
    ASSERT_EQ(tree.audit(), std::nullopt);
    Nanoseconds now = 0;
    for (const auto& writer : writers) now = std::max(now, writer->now);
    std::size_t expected = 0;
    for (auto& writer : writers) {
      ASSERT_EQ(writer->wrong, std::nullopt) << *writer->wrong;
      expected += writer->checked.expire_model(now);
    }
    std::size_t expired = 0;
    while (const std::size_t some = tree.expire(now)) expired += some;
    EXPECT_EQ(expired, expected);
    for (auto& writer : writers) {
      const auto wrong = writer->checked.check_slots();
      ASSERT_EQ(wrong, std::nullopt) << *wrong;
    }
  }
}

}  // namespace
}  // namespace kvroute::testing
