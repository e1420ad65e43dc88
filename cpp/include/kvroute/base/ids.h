#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <variant>

namespace kvroute {

/// Dense number of a target (one DP rank of one worker) inside one router or index.
/// Slots start at 0 and are reused after their target has been removed and cleared.
using Slot = std::uint32_t;

/// Largest number of targets that one router or index can hold at a time.
inline constexpr std::size_t kMaxTargets = 4096;

/// Name of a worker as its owner gave it. An integer and a string never compare equal, so that
/// `0` and `"0"` are two workers.
using WorkerName = std::variant<std::int64_t, std::string>;

/// One data-parallel rank of one worker: what is chosen, and what holds blocks.
struct TargetId {
  WorkerName worker;
  std::uint32_t dp_rank = 0;

  friend bool operator==(const TargetId&, const TargetId&) = default;
  friend auto operator<=>(const TargetId&, const TargetId&) = default;
};

/// The name as a person would write it: 7, or "w0" in quotes.
[[nodiscard]] std::string to_string(const WorkerName& name);

/// The worker's name, followed by its rank: `"w0" rank 1`.
[[nodiscard]] std::string to_string(const TargetId& target);

}  // namespace kvroute

template <>
struct std::hash<kvroute::TargetId> {
  [[nodiscard]] std::size_t operator()(const kvroute::TargetId& target) const noexcept {
    const std::size_t name = std::hash<kvroute::WorkerName>{}(target.worker);
    return name ^ (std::size_t{target.dp_rank} * 0x9e3779b97f4a7c15ULL);
  }
};
