#pragma once

#include <cstddef>
#include <cstdint>
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
/// back. So its cost does not grow with what a load consists of. Decisions lie in pages of at most
/// 32, which are used again with all their memory: once the log is full, nothing is allocated for a
/// decision, unless it has more of something than all those before it in its place.
///
/// Bounded in decisions (`capacity`), in changed loads (8 for each of these) and in bytes
/// (`most_bytes`); beyond any the oldest page goes, and the log reaches less far back. A decision
/// takes 5.5 KiB, most of it room for changed loads, and 9 bytes a slot: what it held, what its
/// requests use, who was excluded why; up to 32 more a slot where it is rare (lower tiers,
/// preferences, costs from elsewhere). Those between two changes of membership share a roster. On
/// top of `most_bytes` may come a page, a roster, pages that somebody reads, and a copy of every
/// load. Not thread-safe.
class DecisionLog {
 public:
  struct Choice {
    Slot chosen = 0;
    std::string_view request_id;
    std::span<const std::pair<Slot, Exclusion>> excluded;
    std::span<const double> given;  // costs from elsewhere; empty: the policy's own
  };

  static constexpr std::size_t kMostBytes = 256U << 20U;

  /// 0: nothing is kept.
  explicit DecisionLog(std::size_t capacity, std::size_t most_bytes = kMostBytes);

  [[nodiscard]] bool is_on() const noexcept { return capacity_ > 0; }

  /// `revisions` by slot: another number for each change of a load or its history. `roster`: of
  /// the input's targets; the same object as long as membership is the same.
  void record(const ScoreInput& input, std::span<const std::uint64_t> revisions,
              const std::shared_ptr<const Policy>& policy,
              const std::shared_ptr<const Roster>& roster, const Choice& choice);

  /// Of its pages, with what they share.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  friend class DecisionReading;

  [[nodiscard]] DecisionPage& page_for(std::size_t changes, std::size_t slots, bool are_all);
  [[nodiscard]] std::shared_ptr<DecisionPage> blank_page();
  void drop_oldest();
  void find_changed(std::span<const std::uint64_t> revisions);
  static void prefetch_next(const DecisionPage& page, std::size_t slots);
  void note_changes(DecisionPage& page, const ScoreInput& input,
                    std::span<const std::uint64_t> revisions);

  std::size_t capacity_;
  std::size_t most_bytes_;
  std::size_t page_size_;
  std::vector<std::shared_ptr<DecisionPage>> pages_;  // the oldest first
  std::shared_ptr<DecisionPage> spare_;
  std::uint64_t next_ = 0;                // number of the next decision
  std::size_t kept_ = 0;                  // decisions in `pages_`
  std::size_t changes_ = 0;               // in `pages_`
  std::size_t bytes_ = 0;                 // of `pages_`
  std::vector<LoadState> now_;            // by slot: as the last decision saw it
  std::vector<std::uint64_t> revisions_;  // of these
  std::vector<Slot> changed_;             // since the last decision
  std::shared_ptr<const Roster> roster_;  // of the last decision
};

}  // namespace kvroute::detail
