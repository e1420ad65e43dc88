#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kvroute/load/target_load.h"
#include "kvroute/policy/filters.h"
#include "kvroute/policy/policy.h"
#include "router/roster.h"

namespace kvroute::detail {

/// What a target was doing at one time, as far as policies look at it: of its history, they look at
/// the requests alone.
struct LoadState {
  TargetLoad load;
  Window requests;
};

/// What a decision had that most have not.
struct RareInput {
  std::array<std::vector<std::uint32_t>, kTiers> depths;
  std::vector<double> preferences;
  std::vector<double> given;
  std::vector<std::pair<Slot, Exclusion>> excluded;
  RequestOverrides overrides;
};

/// One decision, but for the arrays and the loads, which lie in its page.
struct DecisionEntry {
  std::uint64_t num_tokens = 0;
  Nanoseconds now = 0;
  double report_lifetime_seconds = 0;
  std::optional<std::uint64_t> session;
  std::optional<std::uint32_t> expected_output_tokens;
  std::uint32_t block_size = 1;
  Slot chosen = 0;
  std::uint32_t changes = 0;     // of the page's, those that came before
  std::uint32_t hashes = 0;      // begin of its hashes in the page's
  std::uint32_t hash_count = 0;  // so many are kept
  std::uint32_t by_slot = 0;     // begin of held, active and candidates in the page's
  std::uint32_t slots = 0;       // in `held` and in `active`
  std::uint32_t candidates = 0;  // 0: all of the roster's
  FleetLoad fleet;
  std::shared_ptr<const Policy> policy;
  std::shared_ptr<const Roster> roster;
  std::string request_id;
  std::shared_ptr<const RareInput> rare;  // null: nothing of it
};

/// A load that changed, as it was before.
struct LoadChange {
  Slot slot = 0;
  LoadState before;
};

/// Some decisions in a row and the changes of loads among them. It only grows until it is used
/// anew, and nothing in it moves: who has seen it under the log's lock may read so much of it
/// without the lock, as long as `readers` counts it.
struct DecisionPage {
  std::uint64_t first = 0;  ///< number of its first decision
  std::size_t count = 0;    ///< of its decisions
  std::vector<DecisionEntry> entries;
  std::vector<LoadChange> changes;
  std::vector<std::uint64_t> hashes;
  std::vector<std::uint32_t> by_slot;
  std::atomic<std::uint32_t> readers{0};
};

}  // namespace kvroute::detail
