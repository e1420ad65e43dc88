#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace kvroute {

/// What has to be remembered of one stream to understand its next batch. Not thread-safe.
class StreamDialect {
 public:
  /// `expected_block_size`: stored events of another size are refused and counted; 0 takes any.
  explicit StreamDialect(std::uint32_t expected_block_size) noexcept
      : expected_block_size_(expected_block_size) {}

  [[nodiscard]] std::uint32_t expected_block_size() const noexcept { return expected_block_size_; }

  /// Whether a stored event's attention group is indexed: by its kind where it names one (full
  /// attention, also MLA and with sinks), else if the group is 0 or absent. Remembered.
  [[nodiscard]] bool indexes_stored(std::optional<std::uint32_t> group_idx, std::string_view kind);

  /// The same for a removed event, which names no kind: by what stored events said of its group.
  [[nodiscard]] bool indexes_removed(std::optional<std::uint32_t> group_idx) const noexcept;

  /// The parent that an event means. In some dialects 0 stands for none, which is taken so until
  /// the stream has stored a block of that hash.
  [[nodiscard]] std::optional<std::uint64_t> parent(
      std::optional<std::uint64_t> raw) const noexcept {
    return raw == std::uint64_t{0} && !zero_is_a_hash_ ? std::nullopt : raw;
  }
  void saw_stored(std::span<const std::uint64_t> engine_hashes) noexcept;

  /// Forgets what was learned: another engine process publishes now.
  void reset() noexcept;

 private:
  enum class Group : std::uint8_t { unknown, main, other };
  static constexpr std::size_t kMaxGroups = 256;

  std::uint32_t expected_block_size_;
  std::vector<Group> groups_;
  bool zero_is_a_hash_ = false;
};

}  // namespace kvroute
