#include "differential.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace kvroute::testing {
namespace {

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::stoull(value) : otherwise;
}

/// Seeds from KVROUTE_FIRST_SEED on: `otherwise` many, or KVROUTE_SEEDS, or as many as fit into
/// KVROUTE_SOAK_SECONDS (shared by the tests that draw seeds). Says how many operations ran.
class Seeds {
 public:
  explicit Seeds(std::uint64_t otherwise)
      : first_(from_environment("KVROUTE_FIRST_SEED", 1)),
        end_(first_ + from_environment("KVROUTE_SEEDS", otherwise)),
        seconds_(from_environment("KVROUTE_SOAK_SECONDS", 0)) {}

  /// `run` takes a seed and gives a DifferentialResult.
  template <typename Run>
  void each(double share, Run run) {
    const auto until = std::chrono::steady_clock::now() +
                       std::chrono::duration<double>(share * static_cast<double>(seconds_));
    std::uint64_t seed = first_;
    std::uint64_t operations = 0;
    for (; seconds_ > 0 ? std::chrono::steady_clock::now() < until : seed < end_; ++seed) {
      const DifferentialResult result = run(seed);
      operations += result.operations;
      ASSERT_FALSE(result.wrong) << "seed " << seed << ", " << *result.wrong;
    }
    std::printf("%llu operations, seeds %llu to %llu\n", to_print(operations), to_print(first_),
                to_print(seed - 1));
  }

 private:
  static unsigned long long to_print(std::uint64_t number) { return number; }

  std::uint64_t first_;
  std::uint64_t end_;
  std::uint64_t seconds_;
};

// A failure names its seed, and KVROUTE_FIRST_SEED repeats it.
TEST(Differential, AgreesWithTheModelOnEverySeed) {
  Seeds(60).each(0.8, [](std::uint64_t seed) {
    Choices choices(seed);
    const Scenario scenario = draw_scenario(choices);
    return run_differential(choices, scenario, 700, 5);
  });
}

TEST(Differential, StaysBelowTheModelUnderAMemoryLimit) {
  std::uint64_t forgotten = 0;
  Seeds(4).each(0.2, [&forgotten](std::uint64_t seed) {
    Choices choices(seed);
    const Scenario scenario = draw_bounded_scenario(choices);
    auto result = run_bounded(choices, scenario, 1'500, 300);
    forgotten += result.expected.forgotten_exact;
    return result;
  });
  EXPECT_GT(forgotten, 0U);
}

TEST(Differential, AgreesOnALongStreamThatReachesEveryCase) {
  Choices choices(from_environment("KVROUTE_FIRST_SEED", 1));
  Scenario scenario;
  scenario.index.max_waiting = 60;
  scenario.generator.slots = 8;
  scenario.generator.max_length = 90;
  scenario.generator.capacity = 400;
  scenario.generator.naming = Naming::kReused;
  scenario.generator.namespaces = 1;
  const auto result = run_differential(choices, scenario, 8'000, 300);
  ASSERT_FALSE(result.wrong) << *result.wrong;
  const IndexStats& seen = result.expected;
  EXPECT_GT(seen.held_exact, 0U);
  EXPECT_GT(seen.held_lower, 0U);
  EXPECT_GT(seen.duplicates, 0U);
  EXPECT_GT(seen.confirmed, 0U);
  EXPECT_GT(seen.renamed, 0U);
  EXPECT_GT(seen.adopted, 0U);
  EXPECT_GT(seen.waited_in_vain, 0U);
  EXPECT_GT(seen.unknown_removed, 0U);
  EXPECT_GT(seen.expired, 0U);
  EXPECT_GT(seen.outlived, 0U);
}

}  // namespace
}  // namespace kvroute::testing
