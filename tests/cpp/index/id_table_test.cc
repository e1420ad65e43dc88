#include "index/id_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kvroute/base/random.h"

namespace kvroute::testing {
namespace {

using detail::IdTable;
using detail::kNoId;

constexpr auto kAny = [](std::uint32_t) { return true; };

// An IdTable beside a std::unordered_multimap to which the same is done.
class Pair {
 public:
  using Model = std::unordered_multimap<std::uint64_t, std::uint32_t>;

  ~Pair() {
    check();
    table_.clear();
    EXPECT_EQ(bytes_, 0U);
  }

  void insert(std::uint64_t key, std::uint32_t id) {
    table_.insert(key, id);
    model_.emplace(key, id);
  }

  void erase(std::uint64_t key, std::uint32_t id) {
    const auto at = located(key, id);
    ASSERT_EQ(table_.erase(key, id), at != model_.end());
    if (at != model_.end()) model_.erase(at);
  }

  void replace(std::uint64_t key, std::uint32_t from, std::uint32_t to) {
    const auto at = located(key, from);
    ASSERT_EQ(table_.replace(key, from, to), at != model_.end());
    if (at != model_.end()) at->second = to;
  }

  // Every id of the key is found, and no other is.
  void look_up(std::uint64_t key) const {
    std::vector<std::uint32_t> wanted;
    const auto [first, last] = model_.equal_range(key);
    for (auto at = first; at != last; ++at) wanted.push_back(at->second);
    for (const std::uint32_t id : wanted) {
      ASSERT_EQ(table_.find(key, [&](std::uint32_t found) { return found == id; }), id);
    }
    std::vector<std::uint32_t> asked;
    const auto remember = [&](std::uint32_t id) {
      asked.push_back(id);
      return false;
    };
    ASSERT_EQ(table_.find(key, remember), kNoId);
    std::ranges::sort(wanted);
    std::ranges::sort(asked);
    ASSERT_TRUE(std::ranges::includes(asked, wanted));
  }

  void check() const {
    ASSERT_TRUE(table_.audit());
    ASSERT_EQ(table_.size(), model_.size());
    std::vector<std::uint32_t> wanted;
    std::vector<std::uint32_t> visited;
    for (const auto& [key, id] : model_) wanted.push_back(id);
    table_.for_each([&](std::uint32_t id) { visited.push_back(id); });
    std::ranges::sort(wanted);
    std::ranges::sort(visited);
    ASSERT_EQ(visited, wanted);
    ASSERT_EQ(bytes_ == 0, model_.empty());
  }

  [[nodiscard]] const Model& model() const { return model_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  [[nodiscard]] Model::iterator located(std::uint64_t key, std::uint32_t id) {
    const auto [first, last] = model_.equal_range(key);
    for (auto at = first; at != last; ++at) {
      if (at->second == id) return at;
    }
    return model_.end();
  }

  std::size_t bytes_ = 0;
  IdTable table_{&bytes_};
  Model model_;
};

struct Mix {
  const char* name;
  std::uint64_t keys;
  std::uint32_t ids;
  std::function<std::uint64_t(std::uint64_t)> key;
};

class IdTableMix : public ::testing::TestWithParam<Mix> {};

TEST_P(IdTableMix, AgreesWithAMultimapWhateverIsDone) {
  const Mix& mix = GetParam();
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    Random random(seed);
    Pair pair;
    // Phases in which the table grows and in which it shrinks.
    for (std::uint64_t phase = 0; phase < 8; ++phase) {
      const std::uint64_t inserted = phase % 2 == 0 ? 7 : 2;
      for (int step = 0; step < 30'000; ++step) {
        const std::uint64_t key = mix.key(random.below(mix.keys));
        const auto id = static_cast<std::uint32_t>(random.below(mix.ids));
        const std::uint64_t choice = random.below(10);
        if (choice < inserted) {
          pair.insert(key, id);
        } else if (choice < 9) {
          const auto any = pair.model().find(key);
          pair.erase(key, any == pair.model().end() ? id : any->second);
        } else {
          const auto any = pair.model().find(key);
          pair.replace(key, any == pair.model().end() ? id : any->second, id);
        }
        if (step % 16 == 0) pair.look_up(mix.key(random.below(mix.keys)));
        if (step % 5'000 == 0) pair.check();
        if (HasFatalFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    IdTable, IdTableMix,
    ::testing::Values(Mix{"Sequential", 60'000, 1U << 31, [](std::uint64_t i) { return i; }},
                      Mix{"Strided", 60'000, 1U << 31, [](std::uint64_t i) { return i << 44; }},
                      Mix{"Scattered", 60'000, kNoId, [](std::uint64_t i) { return i * i * i; }},
                      Mix{"Few", 40, 1U << 31, [](std::uint64_t i) { return i; }},
                      Mix{"ManyIdsForAKey", 300, 1U << 31, [](std::uint64_t i) { return i * i; }},
                      Mix{"EqualEntries", 3'000, 2, [](std::uint64_t i) { return i; }}),
    [](const auto& mix) { return mix.param.name; });

TEST(IdTable, AllocatesNothingUntilSomethingIsInserted) {
  std::size_t bytes = 0;
  IdTable table(&bytes);
  table.prefetch(1);
  EXPECT_EQ(table.find(1, kAny), kNoId);
  EXPECT_FALSE(table.erase(1, 1));
  EXPECT_FALSE(table.replace(1, 1, 2));
  EXPECT_TRUE(table.audit());
  EXPECT_EQ(bytes, 0U);
  table.insert(1, 2);
  EXPECT_GT(bytes, 0U);
  EXPECT_LE(bytes, 128U);
  EXPECT_TRUE(table.erase(1, 2));
  EXPECT_EQ(bytes, 0U);
}

TEST(IdTable, AddsOnlyWhatItDidNotFind) {
  std::size_t bytes = 0;
  IdTable table(&bytes);
  EXPECT_EQ(table.find_or_insert(5, 1, kAny), kNoId);
  EXPECT_EQ(table.find_or_insert(5, 2, kAny), 1U);
  EXPECT_EQ(table.find_or_insert(5, 2, [](std::uint32_t id) { return id == 2; }), kNoId);
  EXPECT_EQ(table.size(), 2U);
}

TEST(IdTable, GivesItsMemoryBackAsItIsEmptied) {
  constexpr std::uint32_t kEntries = 3'000'000;
  std::size_t bytes = 0;
  IdTable table(&bytes);
  for (std::uint32_t i = 0; i < kEntries; ++i) {
    table.insert(i, i);
    ASSERT_TRUE(i % 250'000 != 0 || table.audit());
    ASSERT_TRUE(i < 20'000 || bytes <= std::size_t{13} * (i + 1)) << bytes << " at " << i;
  }
  // The odd ones first: the table becomes sparse everywhere at once.
  for (const std::uint32_t odd : {1U, 0U}) {
    for (std::uint32_t i = odd; i < kEntries; i += 2) {
      ASSERT_TRUE(table.erase(i, i));
      ASSERT_TRUE(i % 250'000 > 1 || table.audit());
      ASSERT_LE(bytes, 18 * table.size() + 512);
    }
  }
  EXPECT_EQ(bytes, 0U);
  EXPECT_TRUE(table.audit());
}

TEST(IdTable, HoldsAnyNumberOfIdsUnderOneKey) {
  constexpr std::uint32_t kIds = 15'000;
  for (const std::uint64_t key : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{77}}) {
    std::size_t bytes = 0;
    IdTable table(&bytes);
    for (std::uint32_t id = kIds; id-- > 0;) table.insert(key, id);
    EXPECT_TRUE(table.audit());
    EXPECT_LE(bytes, 40U * kIds);
    EXPECT_EQ(table.find(key, [](std::uint32_t id) { return id == kIds / 2; }), kIds / 2);
    EXPECT_TRUE(table.replace(key, 7, kIds + 7));
    EXPECT_FALSE(table.erase(key, 7));
    EXPECT_TRUE(table.erase(key, kIds + 7));
    for (std::uint32_t id = 0; id < kIds; ++id) ASSERT_EQ(table.erase(key, id), id != 7);
    EXPECT_EQ(bytes, 0U);
  }
}

TEST(IdTable, AsksAlmostOnlyAboutTheKeysOwnIds) {
  constexpr std::uint64_t kEntries = 1'000'000;
  // Numbers, numbers in the upper half, multiples of a page, two numbers beside each other.
  const std::vector<std::function<std::uint64_t(std::uint64_t)>> keys{
      [](std::uint64_t i) { return i; }, [](std::uint64_t i) { return i << 32; },
      [](std::uint64_t i) { return i << 12; },
      [](std::uint64_t i) { return (i & 1023) << 32 | i >> 10; }};
  for (const auto& key : keys) {
    std::size_t bytes = 0;
    IdTable table(&bytes);
    for (std::uint64_t i = 0; i < kEntries; ++i) {
      table.insert(key(i), static_cast<std::uint32_t>(i));
    }
    std::size_t others = 0;
    for (std::uint64_t i = 0; i < kEntries; ++i) {
      const auto found = table.find(key(i), [&](std::uint32_t id) {
        others += id != i;
        return id == i;
      });
      ASSERT_EQ(found, i);
    }
    // 10^12 ordered pairs in 2^32 hashes are 233 by chance, and half of them are met.
    EXPECT_LE(others, 400U);
    EXPECT_TRUE(table.audit());
  }
}

TEST(IdTable, TakesItsEntriesAndItsBytesAlongWhenItIsMoved) {
  std::size_t bytes = 0;
  std::size_t other_bytes = 0;
  {
    IdTable table(&bytes);
    for (std::uint32_t i = 0; i < 50'000; ++i) table.insert(i, i);
    IdTable moved(std::move(table));
    EXPECT_EQ(moved.size(), 50'000U);
    EXPECT_TRUE(moved.audit());
    IdTable other(&other_bytes);
    other.insert(1, 2);
    other = std::move(moved);
    EXPECT_EQ(other.find(49'999, kAny), 49'999U);
  }
  EXPECT_EQ(bytes, 0U);
  EXPECT_EQ(other_bytes, 0U);
}

}  // namespace
}  // namespace kvroute::testing
