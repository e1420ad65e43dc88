#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvroute/base/ids.h"

namespace kvroute::bench {

/// One stored event of an engine.
struct StoreEvent {
  Slot slot = 0;
  std::optional<std::uint64_t> parent;
  std::vector<std::uint64_t> names;
  std::vector<std::uint64_t> labels;
};

/// What a tree is filled with, and what is then asked of it.
struct Workload {
  std::vector<StoreEvent> events;
  std::vector<std::vector<std::uint64_t>> lookups;
  std::size_t block_holders = 0;    ///< (block, slot) pairs after the fill
  std::string source = "computed";  ///< the trace, or that it was generated
};

enum class Fill : std::uint8_t {
  kConversations,  ///< A: a chat trace, each request stored on a worker in turn, less what it has
  kSharedHead,     ///< B: 1,000 sequences of 1,000 blocks that share their first 64
  kOneSequence,    ///< C: one sequence of 6,250 blocks on every worker
  kAgentic,        ///< D: a trace of coding sessions (2,046 blocks a request), stored as A is
};

/// The constants of a fill never change. A and D are the traces of workload_traces.h.
/// `own_names`: every worker has its own engine hashes; otherwise they agree.
[[nodiscard]] Workload make_workload(Fill fill, std::uint32_t slots, bool own_names);

}  // namespace kvroute::bench
