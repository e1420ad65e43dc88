#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kvroute::bench {

/// The requests of a trace in the order in which they come, each as the labels of its blocks.
struct Trace {
  std::vector<std::vector<std::uint64_t>> requests;
  std::string source;  ///< the file's name, or that it was generated
};

// Both read a file in the folder named by KVROUTE_TRACES. Where that is not set, or holds no such
// file, they generate a trace of like statistics, always the same.

/// conversation_trace.jsonl: 12,031 requests of chats, of 24 blocks in the mean, that share their
/// first block; a third continue an earlier one.
[[nodiscard]] Trace conversations();

/// claude_code_sessions.jsonl.gz: agentic coding sessions, whose requests repeat all but a few
/// blocks of an earlier one. Of its 710 sessions every 16th, as if they began together: 45 sessions
/// with 2,969 requests of 2,046 blocks in the mean (the whole file: 49,334 of 1,912). It is
/// unpacked by the program gzip.
[[nodiscard]] Trace agentic_sessions();

}  // namespace kvroute::bench
