#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "index_workload.h"

namespace kvroute::bench {

/// A workload as programs of other languages read it too: flat arrays, so that what a process holds
/// before it fills an index are a few large allocations and no freed ones.
///
/// The file is 64-bit little-endian words: kWorkloadMagic; the numbers of events, of their blocks,
/// of lookups and of their blocks; per event its slot, whether it has a parent (0 or 1), the parent
/// and its number of blocks; all names; all labels; per lookup its number of blocks; all its
/// labels.
class FlatWorkload {
 public:
  struct Event {
    Slot slot = 0;
    std::optional<std::uint64_t> parent;
    std::span<const std::uint64_t> names;
    std::span<const std::uint64_t> labels;
    std::span<const std::uint64_t> removed;  ///< the names, the last one first
  };

  /// \throws std::runtime_error if the file cannot be read or is no workload.
  explicit FlatWorkload(const std::string& path);
  FlatWorkload(const FlatWorkload&) = delete;
  FlatWorkload& operator=(const FlatWorkload&) = delete;

  /// Gives all blocks other names and labels, which differ by `key` in every bit that it has; the
  /// lookups stay. Allocates nothing.
  void relabel(std::uint64_t key);

  [[nodiscard]] std::span<const Event> events() const { return events_; }
  [[nodiscard]] std::span<const std::span<const std::uint64_t>> lookups() const { return lookups_; }
  [[nodiscard]] std::size_t block_holders() const { return names_.size(); }

 private:
  std::vector<std::uint64_t> names_;
  std::vector<std::uint64_t> labels_;
  std::vector<std::uint64_t> removed_;
  std::vector<std::uint64_t> asked_;
  std::vector<Event> events_;
  std::vector<std::span<const std::uint64_t>> lookups_;
};

inline constexpr std::uint64_t kWorkloadMagic = 0x31303030574b564bULL;

/// \throws std::runtime_error if the file cannot be written.
void write_workload(const Workload& workload, const std::string& path);

}  // namespace kvroute::bench
