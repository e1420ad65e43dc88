#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace kvroute::detail {

/// Finds hashes that occur twice in one event. An open-addressed table whose slots carry the number
/// of the check that filled them, so that nothing is ever emptied; the multiplier is random, so
/// that nobody can choose hashes that collide. O(hashes); reuses its memory.
class RepeatCheck {
 public:
  RepeatCheck();

  /// Whether a hash occurs twice, or equals `parent`.
  [[nodiscard]] bool repeats(std::span<const std::uint64_t> hashes,
                             std::optional<std::uint64_t> parent);

 private:
  struct Entry {
    std::uint64_t hash = 0;
    std::uint64_t check = 0;
  };

  [[nodiscard]] bool repeats_in_few(std::span<const std::uint64_t> hashes) const noexcept;
  [[nodiscard]] bool repeats_in_many(std::span<const std::uint64_t> hashes);
  [[nodiscard]] bool repeats_in_table(std::span<const std::uint64_t> hashes);

  std::uint64_t multiplier_;
  std::uint64_t check_ = 0;
  std::vector<Entry> table_;
};

}  // namespace kvroute::detail
