// Snapshots that were changed and sealed again: what is refused must leave nothing behind, and what
// is accepted must be a tree, which goes on as one and can be saved and loaded in turn.
//
// Built by clang with -fsanitize=fuzzer as snapshot_fuzz; by any compiler with KVROUTE_FUZZ_REPLAY
// defined as a test that runs seeded inputs of the same kind.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "choices.h"
#include "kvroute/base/error.h"
#include "kvroute/hash/block_hash.h"
#include "unchecked_writer.h"

namespace {

using namespace kvroute;           // NOLINT(google-build-using-namespace): what is under test
using namespace kvroute::testing;  // NOLINT(google-build-using-namespace): its tests' parts

/// Says at the end what became of the inputs.
struct Total {
  unsigned long long tried = 0;
  unsigned long long accepted = 0;
  ~Total() { std::fprintf(stderr, "%llu snapshots, %llu accepted\n", tried, accepted); }
};
Total total;

constexpr std::size_t kBeginning = 9;  // magic and version
constexpr std::size_t kChecksum = 8;
constexpr Nanoseconds kLater = 1'000'000'000'000;

void require_sound(const PrefixTree& tree, const char* when) {
  const std::optional<std::string> wrong = tree.audit();
  if (!wrong) return;
  std::fprintf(stderr, "%s: %s\n", when, wrong->c_str());
  std::abort();
}

GeneratorOptions traffic(Choices& choices) {
  GeneratorOptions generator;
  generator.max_length = 1 + choices.below(20);
  generator.capacity = 30;
  generator.naming = static_cast<Naming>(choices.below(3));
  generator.snapshots = false;
  generator.chaos = choices.one_in(2);
  if (generator.chaos) generator.namespaces = 1;
  return generator;
}

/// One to three bytes of another value, further or fewer, and the checksum of what is there then.
std::string changed(std::string bytes, Choices& choices) {
  for (std::uint32_t left = 1 + choices.below(3); left > 0; --left) {
    const std::size_t size = bytes.size() - kBeginning - kChecksum;
    if (size == 0) break;
    const std::size_t at =
        kBeginning + choices.below(static_cast<std::uint32_t>(std::min<std::size_t>(size, 65'536)));
    switch (choices.below(6)) {
      case 0: ++bytes[at]; break;
      case 1: --bytes[at]; break;
      case 2: bytes[at] = static_cast<char>(choices.below(256)); break;
      case 3: bytes[at] = static_cast<char>(choices.below(8)); break;
      case 4: bytes.insert(at, 1, static_cast<char>(choices.below(4))); break;
      default: bytes.erase(at, 1); break;
    }
  }
  const std::uint64_t sum = hash_identifier({bytes.data(), bytes.size() - kChecksum});
  std::memcpy(bytes.data() + bytes.size() - kChecksum, &sum, kChecksum);
  return bytes;
}

void try_to_load(const std::string& bytes, Choices& choices) {
  ++total.tried;
  PrefixTree tree;
  try {
    tree.restore(bytes, 0);
  } catch (const InvalidArgument&) {
    if (tree.stats().bytes.total() != PrefixTree().stats().bytes.total()) std::abort();
    return;
  }
  ++total.accepted;
  require_sound(tree, "loaded");
  PrefixTree again;
  again.restore(tree.snapshot(0), 0);
  require_sound(again, "saved and loaded");
  EverHeld ever;
  UncheckedWriter writer(tree, traffic(choices), choices.below(1'000));
  writer.run(20, ever);
  while (tree.expire(kLater) > 0) continue;
  require_sound(tree, "after further events");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Choices choices({data, size});
  PrefixTree tree;
  EverHeld ever;
  UncheckedWriter writer(tree, traffic(choices), choices.below(1'000));
  writer.run(5 + choices.below(60), ever);
  const std::string good = tree.snapshot(0);
  for (int times = 0; times < 40 && !choices.exhausted(); ++times) {
    try_to_load(changed(good, choices), choices);
  }
  return 0;
}

#ifdef KVROUTE_FUZZ_REPLAY
#include <vector>

#include "kvroute/base/random.h"

int main() {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    kvroute::Random random(seed);
    std::vector<std::uint8_t> bytes(1'000);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.next());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  return 0;
}
#endif
