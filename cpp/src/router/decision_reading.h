#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kvroute/router/decision_record.h"
#include "router/decision_log.h"
#include "router/decision_page.h"

namespace kvroute::detail {

/// One reading of a DecisionLog, in steps that are short whatever it holds: `take` under the log's
/// lock, again and again until it is done, then `records` without.
class DecisionReading {
 public:
  /// The last `limit` decisions before the first step, or fewer.
  explicit DecisionReading(std::size_t limit) : limit_(limit) {}
  DecisionReading(const DecisionReading&) = delete;
  DecisionReading& operator=(const DecisionReading&) = delete;
  ~DecisionReading();

  /// True when everything is taken. A step copies the loads of at most 64 targets, or notes which
  /// pages there are.
  [[nodiscard]] bool take(const DecisionLog& log);

  /// The oldest first.
  [[nodiscard]] std::vector<DecisionRecord> records();

 private:
  // So much of a page as there was when it was seen.
  struct Seen {
    std::shared_ptr<DecisionPage> page;
    std::uint64_t first = 0;
    std::span<const DecisionEntry> entries;
    std::span<const LoadChange> changes;
    const std::uint64_t* hashes = nullptr;
    const std::uint32_t* by_slot = nullptr;
    const Standing* standings = nullptr;
  };

  void see_pages(const DecisionLog& log);
  void go_back(const LoadChange& change);
  void find_candidates(const Seen& seen, const DecisionEntry& entry);
  [[nodiscard]] ScoreInput input_of(const Seen& seen, const DecisionEntry& entry) const;
  [[nodiscard]] DecisionRecord record_of(const Seen& seen, const DecisionEntry& entry);

  std::size_t limit_;
  bool has_begun_ = false;
  std::uint64_t begin_ = 0;  // of the decisions that are told
  std::uint64_t end_ = 0;
  std::vector<Seen> pages_;  // the oldest first
  std::vector<TargetLoad> loads_;
  std::vector<TargetHistory> histories_;
  std::vector<Slot> candidates_;  // of one decision, as those excluded
  std::vector<std::pair<Slot, Exclusion>> excluded_;
};

}  // namespace kvroute::detail
