#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "hashes.h"
#include "kvroute/base/error.h"
#include "kvroute/index/prefix_index.h"

namespace kvroute::testing {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::ThrowsMessage;

/// The target holds these blocks, from the root on; engine hashes are the local ones.
inline void fill(PrefixIndex& index, const TargetId& target, const Hashes& chain) {
  (void)index.store(target, std::nullopt, chain, chain);
}

}  // namespace kvroute::testing
