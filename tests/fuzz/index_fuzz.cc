// The differential test's body under libFuzzer: bytes choose the options and every operation, and
// any difference from the reference model, or a violated invariant, aborts.
//
// Built by clang with -fsanitize=fuzzer as index_fuzz; by any compiler with KVROUTE_FUZZ_REPLAY
// defined as a test that runs seeded inputs of the same kind.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "differential.h"

namespace {

/// Says at the end how many operations were compared.
struct Total {
  unsigned long long operations = 0;
  ~Total() { std::fprintf(stderr, "%llu operations\n", operations); }
};
Total total;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kvroute::testing;
  Choices choices({data, size});
  const Scenario scenario = draw_scenario(choices);
  const auto result = run_differential(choices, scenario, 400, 16);
  total.operations += result.operations;
  if (!result.wrong) return 0;
  std::fprintf(stderr, "%s\n", result.wrong->c_str());
  std::abort();
}

#ifdef KVROUTE_FUZZ_REPLAY
#include <vector>

#include "kvroute/base/random.h"

int main() {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    kvroute::Random random(seed);
    std::vector<std::uint8_t> bytes(random.below(4'000));
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.next());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  return 0;
}
#endif
