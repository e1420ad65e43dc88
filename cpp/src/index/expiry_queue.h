#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "index/accounting.h"
#include "index/run_store.h"
#include "kvroute/base/clock.h"

namespace kvroute::detail {

/// When to look at which node for predicted blocks whose time is up. Each node has at most one
/// valid record; the ticket in the node says which. Records of nodes that have gone are skipped,
/// and swept out when they outnumber the valid ones.
class ExpiryQueue {
 public:
  struct Record {
    Nanoseconds deadline;
    NodeId node;
    std::uint32_t ticket;
  };

  explicit ExpiryQueue(std::size_t* bytes) : records_(CountingAllocator<Record>(bytes)) {}

  /// \return the ticket to keep in the node; never 0.
  [[nodiscard]] std::uint32_t push(Nanoseconds deadline, NodeId node) {
    if (++next_ticket_ == 0) ++next_ticket_;
    records_.push_back({deadline, node, next_ticket_});
    std::push_heap(records_.begin(), records_.end(), later);
    publish_earliest();
    ++valid_;
    return next_ticket_;
  }

  /// The earliest record that is due at `now` is taken out and returned, valid or not.
  [[nodiscard]] std::optional<Record> pop_due(Nanoseconds now) {
    if (records_.empty() || records_.front().deadline > now) return std::nullopt;
    std::pop_heap(records_.begin(), records_.end(), later);
    const Record record = records_.back();
    records_.pop_back();
    publish_earliest();
    return record;
  }

  /// Whether a record is due at `now`. Unlike all else here it may be asked without the writers'
  /// lock, so that a decision at which nothing is due need not wait for a writer.
  [[nodiscard]] bool is_due(Nanoseconds now) const noexcept {
    return earliest_.load(std::memory_order_relaxed) <= now;
  }

  /// A node's record is no longer valid (it was taken out, or the node went).
  void retire() noexcept { --valid_; }

  /// Drops invalid records once they outnumber the valid ones.
  template <typename IsValid>
  void sweep(IsValid is_valid) {
    if (records_.size() <= 2 * valid_ + kSlack) return;
    std::erase_if(records_, [&](const Record& record) { return !is_valid(record); });
    std::make_heap(records_.begin(), records_.end(), later);
    records_.shrink_to_fit();
    publish_earliest();
  }
  [[nodiscard]] std::size_t valid() const noexcept { return valid_; }

 private:
  static constexpr std::size_t kSlack = 64;
  static bool later(const Record& a, const Record& b) noexcept { return a.deadline > b.deadline; }

  void publish_earliest() noexcept {
    earliest_.store(records_.empty() ? kNever : records_.front().deadline,
                    std::memory_order_relaxed);
  }

  static constexpr Nanoseconds kNever = std::numeric_limits<Nanoseconds>::max();

  std::atomic<Nanoseconds> earliest_{kNever};
  std::vector<Record, CountingAllocator<Record>> records_;
  std::size_t valid_ = 0;
  std::uint32_t next_ticket_ = 0;
};

}  // namespace kvroute::detail
