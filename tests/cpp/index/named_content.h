#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <vector>

#include "hashes.h"
#include "kvroute/base/error.h"
#include "kvroute/index/prefix_index.h"

namespace kvroute::testing {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::ThrowsMessage;

/// The worker is removed, and `meanwhile` is called once it has lost its name, mostly before it has
/// lost its blocks.
template <typename Call>
void while_removing(PrefixIndex& index, const TargetId& target, Call meanwhile) {
  std::thread removing([&] { index.remove_worker(target.worker); });
  for (bool named = true; named;) {
    const std::vector<TargetId> targets = index.targets();
    named = std::find(targets.begin(), targets.end(), target) != targets.end();
  }
  meanwhile();
  removing.join();
}

/// The target holds these blocks, from the root on; engine hashes are the local ones.
inline void fill(PrefixIndex& index, const TargetId& target, const Hashes& chain) {
  (void)index.store(target, std::nullopt, chain, chain);
}

/// So much that a sweep of it takes a while.
inline void fill_much(PrefixIndex& index, const TargetId& target) {
  for (std::uint64_t family = 1'000; family < 3'000; ++family) {
    fill(index, target, hashes(20, family));
  }
}

}  // namespace kvroute::testing
