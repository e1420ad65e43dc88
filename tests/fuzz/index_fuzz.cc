// The differential test's body under libFuzzer: bytes choose the options and every operation, and
// any difference from the reference model, or a violated invariant, aborts.
//
// Built by clang with -fsanitize=fuzzer as index_fuzz; by any compiler with KVROUTE_FUZZ_REPLAY
// defined as a test that runs seeded inputs of the same kind.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "checked_tree.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kvroute::testing;
  Choices choices({data, size});
  const auto [index, generator] = draw_options(choices);
  const auto wrong = run_differential(choices, index, generator, 2'000, 1);
  if (!wrong) return 0;
  std::fprintf(stderr, "%s\n", wrong->c_str());
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
