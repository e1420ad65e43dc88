#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvroute/policy/filters.h"
#include "kvroute/policy/policy.h"
#include "kvroute/router/decision_record.h"
#include "router/roster.h"

namespace kvroute::detail {

/// The last decisions of a router with all that they rested on, for people who ask later. The
/// policy's terms are computed when they ask. Of a prompt's hashes the first 64 are kept: a policy
/// that keys requests by a longer head is told of those with another key.
///
/// A decision is kept as what differs from the one before: loads that have changed since
/// (TargetLoad::revision), the match, and the request. So its cost does not grow with what a load
/// consists of. Bounded: `capacity` decisions, and 8 changed loads for each; where more change, the
/// log reaches less far back. Not thread-safe.
class DecisionLog {
 public:
  struct Choice {
    Slot chosen = 0;
    std::string_view request_id;
    std::span<const std::pair<Slot, Exclusion>> excluded;
    std::span<const double> given;  // costs from elsewhere; empty: the policy's own
  };
  /// What was kept at one time, apart from the log.
  class Past;

  /// 0: nothing is kept.
  explicit DecisionLog(std::size_t capacity) : capacity_(capacity) {}

  [[nodiscard]] bool is_on() const noexcept { return capacity_ > 0; }

  void record(const ScoreInput& input, const std::shared_ptr<const Policy>& policy,
              const TargetTable& targets, const Choice& choice);

  /// A copy of the last `limit` decisions and of what it takes to read them: no change of a load
  /// that only earlier ones rested on.
  [[nodiscard]] Past past(std::size_t limit) const;

 private:
  /// A target's load from one time on.
  struct Change {
    Slot slot = 0;
    std::uint64_t before = 0;  // number of the slot's change before, from 1; 0: none
    TargetLoad load;
    TargetHistory history;
  };
  /// The loads of all slots at one time.
  struct Loads {
    std::vector<TargetLoad> loads;
    std::vector<TargetHistory> histories;
    void apply(const Change& change);
  };
  /// What a decision had that most have not.
  struct Rare {
    std::array<std::vector<std::uint32_t>, kTiers> depths;
    std::vector<double> preferences;
    std::vector<double> given;
    std::vector<std::pair<Slot, Exclusion>> excluded;
    RequestOverrides overrides;
  };
  struct Entry {
    std::uint64_t num_tokens = 0;
    Nanoseconds now = 0;
    double report_lifetime_seconds = 0;
    std::optional<std::uint64_t> session;
    std::optional<std::uint32_t> expected_output_tokens;
    std::uint32_t block_size = 1;
    Slot chosen = 0;
    std::uint32_t slots = 0;       // in `held` and in `active`
    std::uint32_t candidates = 0;  // 0: all of the roster's
    std::uint64_t changes = 0;     // that came before
    FleetLoad fleet;
    std::shared_ptr<const Policy> policy;
    std::shared_ptr<const Roster> roster;
    std::string request_id;
    std::vector<std::uint64_t> hashes;
    std::vector<std::uint32_t> by_slot;  // held, active, candidates
    std::shared_ptr<const Rare> rare;    // null: nothing of it

    [[nodiscard]] ScoreInput input(const Loads& loads) const;
    [[nodiscard]] DecisionRecord read(const Loads& loads) const;
  };

  [[nodiscard]] static std::shared_ptr<const Rare> rare_of(const ScoreInput& input,
                                                           const Choice& choice);
  void note_changes(const ScoreInput& input);
  void prefetch_next() const;
  void push(Slot slot, const ScoreInput& input);
  [[nodiscard]] Loads loads_after(std::uint64_t changes) const;

  std::size_t capacity_;
  std::vector<Entry> entries_;  // a ring: that of number n at n modulo capacity
  std::uint64_t next_ = 0;
  std::shared_ptr<const Roster> roster_;

  std::vector<Change> changes_;  // a ring likewise
  std::uint64_t changed_ = 0;    // so many came
  std::uint64_t merged_ = 0;     // so many of them are part of `base_`
  Loads base_;
  std::vector<std::uint64_t> latest_;     // by slot: number of its last change, from 1; 0: none
  std::vector<std::uint64_t> revisions_;  // by slot: of the load that was noted last
};

class DecisionLog::Past {
 public:
  /// The oldest first.
  [[nodiscard]] std::vector<DecisionRecord> read();

 private:
  friend class DecisionLog;

  std::vector<Entry> entries_;
  std::vector<Change> changes_;
  std::uint64_t first_ = 0;  // number of the first of the changes
  Loads loads_;
};

}  // namespace kvroute::detail
