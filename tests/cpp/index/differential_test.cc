#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "checked_tree.h"

namespace kvroute::testing {
namespace {

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::stoull(value) : otherwise;
}

// KVROUTE_SEEDS and KVROUTE_FIRST_SEED widen the search; a failure names its seed.
TEST(Differential, AgreesWithTheModelOnEverySeed) {
  const std::uint64_t first = from_environment("KVROUTE_FIRST_SEED", 1);
  const std::uint64_t seeds = from_environment("KVROUTE_SEEDS", 60);
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    Choices choices(seed);
    const auto [index, generator] = draw_options(choices);
    const auto wrong = run_differential(choices, index, generator, 700, 5);
    ASSERT_FALSE(wrong) << "seed " << seed << ", " << *wrong;
  }
}

TEST(Differential, AgreesOnALongStream) {
  Choices choices(from_environment("KVROUTE_FIRST_SEED", 1));
  GeneratorOptions generator;
  generator.slots = 8;
  generator.max_length = 90;
  generator.capacity = 400;
  const auto wrong = run_differential(choices, {}, generator, 6'000, 300);
  ASSERT_FALSE(wrong) << *wrong;
}

}  // namespace
}  // namespace kvroute::testing
