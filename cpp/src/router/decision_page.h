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
  RequestOverrides overrides;

  [[nodiscard]] std::size_t bytes() const noexcept;
};

/// What a decision made of a target, in one byte.
class Standing {
 public:
  Standing() = default;  // it was not asked about
  [[nodiscard]] static Standing candidate() noexcept { return Standing(1); }
  [[nodiscard]] static Standing excluded(Exclusion why) noexcept {
    return Standing(static_cast<std::uint8_t>(kFirstReason + static_cast<std::uint8_t>(why)));
  }
  [[nodiscard]] bool is_candidate() const noexcept { return value_ == 1; }
  [[nodiscard]] std::optional<Exclusion> reason() const noexcept {
    if (value_ < kFirstReason) return std::nullopt;
    return static_cast<Exclusion>(value_ - kFirstReason);
  }

 private:
  static constexpr std::uint8_t kFirstReason = 2;

  explicit Standing(std::uint8_t value) noexcept : value_(value) {}

  std::uint8_t value_ = 0;
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
  std::uint32_t by_slot = 0;     // begin of held and active in the page's
  std::uint32_t slots = 0;       // in `held` and in `active`
  std::uint32_t standings = 0;   // begin of its own in the page's
  bool are_all = true;           // the roster's are the candidates: it has no standings
  bool is_rare = false;          // `rare` is of this decision, not of one before in this place
  FleetLoad fleet;
  std::shared_ptr<const Policy> policy;
  std::shared_ptr<const Roster> roster;
  std::string request_id;
  std::unique_ptr<RareInput> rare;  // keeps its memory for the next decision in this place

  /// Memory that it takes beside itself, but for its policy and its roster.
  [[nodiscard]] std::size_t more_bytes() const noexcept;
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
  /// Memory that it takes, but for rosters and policies, which others share.
  [[nodiscard]] std::size_t own_bytes() const noexcept;

  std::uint64_t first = 0;  ///< number of its first decision
  std::size_t count = 0;    ///< of its decisions
  std::size_t bytes = 0;    ///< `own_bytes`, and those of the rosters that begin in it
  std::vector<DecisionEntry> entries;
  std::vector<LoadChange> changes;
  std::vector<std::uint64_t> hashes;
  std::vector<std::uint32_t> by_slot;
  std::vector<Standing> standings;
  std::atomic<std::uint32_t> readers{0};
};

}  // namespace kvroute::detail
