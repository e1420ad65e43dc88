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
/// policy's terms are computed when they ask.
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

  void record(const ScoreInput& input, std::shared_ptr<const Policy> policy,
              const TargetTable& targets, const Choice& choice);

  /// A copy of the last `limit` decisions and what it takes to read them.
  [[nodiscard]] Past past(std::size_t limit) const;

 private:
  /// A target's load from one time on.
  struct Change {
    Slot slot = 0;
    TargetLoad load;
    TargetHistory history;
  };
  /// The loads of all slots at one time.
  struct Loads {
    std::vector<TargetLoad> loads;
    std::vector<TargetHistory> histories;
    void apply(const Change& change);
  };
  struct Entry {
    ScoreInput facts;  // without its views
    std::optional<std::uint64_t> number;
    std::uint64_t changes = 0;  // that came before
    FleetLoad fleet;
    std::shared_ptr<const Policy> policy;
    std::shared_ptr<const Roster> roster;
    Slot chosen = 0;
    std::string request_id;
    std::vector<std::uint64_t> hashes;
    std::vector<Slot> candidates;
    std::vector<std::pair<Slot, Exclusion>> excluded;
    std::vector<std::uint32_t> held;
    std::array<std::vector<std::uint32_t>, kTiers> depths;
    std::vector<std::uint32_t> active;
    std::vector<double> preferences;
    std::vector<double> given;

    [[nodiscard]] ScoreInput input(const Loads& loads) const;
    [[nodiscard]] DecisionRecord read(const Loads& loads) const;
  };

  void note_changes(const ScoreInput& input);
  void push(Slot slot, const ScoreInput& input);

  std::size_t capacity_;
  std::vector<Entry> entries_;  // a ring: that of number n at n modulo capacity
  std::uint64_t next_ = 0;
  std::shared_ptr<const Roster> roster_;

  std::vector<Change> changes_;  // a ring likewise
  std::uint64_t changed_ = 0;    // so many came
  std::uint64_t merged_ = 0;     // so many of them are part of `base_`
  Loads base_;
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
