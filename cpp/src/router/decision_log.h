#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "kvroute/policy/filters.h"
#include "kvroute/policy/policy.h"
#include "router/decision_page.h"
#include "router/roster.h"

namespace kvroute::detail {

/// The last decisions of a router with all that they rested on, for people who ask later
/// (`DecisionReading`). The policy's terms are computed when they ask. Of a prompt's hashes the
/// first 64 are kept: a policy that keys requests by a longer head is told of those with another
/// key.
///
/// A decision is kept as what differs from the one before: loads that have changed since, as they
/// were before that, the match, and the request. From the loads as they are now, who reads goes
/// back. So its cost does not grow with what a load consists of. Decisions lie in pages, which are
/// used again: once the log is full, nothing is allocated for a decision that excludes nobody.
/// Bounded: `capacity` decisions and one page, for each 8 changed loads, the match (8 bytes a slot)
/// and the membership of then, which those between two changes of it share; where more loads
/// change, the log reaches less far back. Not thread-safe.
class DecisionLog {
 public:
  struct Choice {
    Slot chosen = 0;
    std::string_view request_id;
    std::span<const std::pair<Slot, Exclusion>> excluded;
    std::span<const double> given;  // costs from elsewhere; empty: the policy's own
  };

  /// 0: nothing is kept.
  explicit DecisionLog(std::size_t capacity);

  [[nodiscard]] bool is_on() const noexcept { return capacity_ > 0; }

  /// `revisions` by slot: another number for each change of a load or its history.
  void record(const ScoreInput& input, std::span<const std::uint64_t> revisions,
              const std::shared_ptr<const Policy>& policy, const TargetTable& targets,
              const Choice& choice);

 private:
  friend class DecisionReading;

  [[nodiscard]] DecisionPage& page_for(std::size_t changes, std::size_t by_slot);
  [[nodiscard]] std::shared_ptr<DecisionPage> blank_page();
  void drop_oldest();
  void find_changed(std::span<const std::uint64_t> revisions);
  static void prefetch_next(const DecisionPage& page, std::size_t by_slot);
  void note_changes(DecisionPage& page, const ScoreInput& input,
                    std::span<const std::uint64_t> revisions);

  std::size_t capacity_;
  std::size_t page_size_;
  std::deque<std::shared_ptr<DecisionPage>> pages_;  // the oldest first
  std::shared_ptr<DecisionPage> spare_;
  std::uint64_t next_ = 0;                // number of the next decision
  std::size_t kept_ = 0;                  // decisions in `pages_`
  std::size_t changes_ = 0;               // in `pages_`
  std::vector<LoadState> now_;            // by slot: as the last decision saw it
  std::vector<std::uint64_t> revisions_;  // of these
  std::vector<Slot> changed_;             // since the last decision
  std::shared_ptr<const Roster> roster_;
};

}  // namespace kvroute::detail
