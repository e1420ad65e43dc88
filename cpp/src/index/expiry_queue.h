#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
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
    ++valid_;
    return next_ticket_;
  }

  /// The earliest record that is due at `now` is taken out and returned, valid or not.
  [[nodiscard]] std::optional<Record> pop_due(Nanoseconds now) {
    if (records_.empty() || records_.front().deadline > now) return std::nullopt;
    std::pop_heap(records_.begin(), records_.end(), later);
    const Record record = records_.back();
    records_.pop_back();
    return record;
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
  }
  [[nodiscard]] std::size_t valid() const noexcept { return valid_; }

 private:
  static constexpr std::size_t kSlack = 64;
  static bool later(const Record& a, const Record& b) noexcept { return a.deadline > b.deadline; }

  std::vector<Record, CountingAllocator<Record>> records_;
  std::size_t valid_ = 0;
  std::uint32_t next_ticket_ = 0;
};

}  // namespace kvroute::detail
