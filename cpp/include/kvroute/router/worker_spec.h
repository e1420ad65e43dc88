#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kvroute/base/ids.h"

namespace kvroute {

/// One engine endpoint, as its owner describes it.
struct WorkerSpec {
  WorkerName name;
  std::uint32_t dp_ranks = 1;               ///< data-parallel ranks, each a target of its own
  std::optional<std::uint32_t> block_size;  ///< tokens per block; absent: the router's
  /// ZMQ endpoints. Empty: none. One: rank 0's, rank r has its port + r. Else one for each rank.
  std::vector<std::string> kv_events;    ///< KV events; without, the worker is predicted only
  std::vector<std::string> kv_replay;    ///< where missed events can be had again
  std::vector<std::string> load_events;  ///< {"num_waiting_reqs", "kv_cache_usage"} as JSON
  /// KV blocks of each rank. Without KV events they bound what is predicted, in place of a time
  /// (PrefixTree::set_capacity).
  std::optional<std::uint64_t> total_blocks;
  /// For filters. "model": what it serves; "zone" and "host": where it is, for pairs of targets.
  /// Hosts of one name in two zones are two; who names a host and no zone is in the zone "".
  std::map<std::string, std::string> labels;
};

/// Who may be chosen: a worker with all its ranks, or one of them.
struct WorkerRef {
  WorkerName worker;
  std::optional<std::uint32_t> dp_rank;
};

/// The endpoint of each of `ranks` ranks, by the rule above. `field` names the argument in errors.
/// \throws InvalidArgument for a number of endpoints that is not 0, 1 or `ranks`, for one that is
/// not "tcp://host:port" (or, given for each rank, "ipc://path"), and for a port beyond 65,535.
[[nodiscard]] std::vector<std::string> endpoints_by_rank(const std::vector<std::string>& endpoints,
                                                         std::uint32_t ranks, const char* field);

}  // namespace kvroute
