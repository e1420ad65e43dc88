#pragma once

#include <cstdint>
#include <optional>

namespace kvroute {

enum class SequenceVerdict : std::uint8_t { apply, duplicate, gap, restart };

/// What one observed sequence number means. For a gap, batches `from` to `to` - 1 are missing.
struct SequenceStep {
  SequenceVerdict verdict;
  std::uint64_t from = 0;
  std::uint64_t to = 0;

  friend bool operator==(const SequenceStep&, const SequenceStep&) = default;
};

/// Follows the sequence numbers of one publisher: which batch is next, missing, old, or from
/// another process. Pure: no I/O, no time. Not thread-safe.
///
/// Two counters matter. `next` is the first batch not yet applied, whoever brought it; the last
/// live number is what the publisher's own socket said last. A replay moves only the first, so live
/// batches that it has overtaken are duplicates, while a live number that falls back is a restart.
///
///     live number s                        verdict
///     s below the last live one            restart: counters are reset; observe s again
///     s equal to it, same content          duplicate
///     s equal to it, other content,
///       or after a reconnect               restart, likewise
///     s below `next`                       duplicate (a replay brought it)
///     s equal to `next`                    apply; `next` becomes s + 1
///     s above `next`                       gap [next, s): `next` stays until a replay fills the
///     gap
///                                          or `skip_to(s)` gives it up; then `place` s
///
/// `next` begins at 0, so a first live number above 0 is a gap from 0 on: the past is missing.
/// `content` tells two batches of one number apart: any hash of the payload.
class SequenceTracker {
 public:
  /// A batch from the publisher's own socket.
  [[nodiscard]] SequenceStep observe(std::uint64_t seq, std::uint64_t content) noexcept;

  /// A batch that is not news from the publisher's own socket: from a replay, or one held back
  /// while its gap was being filled. Apply, duplicate or gap, never restart.
  [[nodiscard]] SequenceStep place(std::uint64_t seq, std::uint64_t content) noexcept;

  /// The publisher's socket has been connected anew: it repeats nothing, so that a last live number
  /// seen again is a restart.
  void reconnected() noexcept { reconnected_ = true; }

  /// Gives up what is missing before `seq`.
  void skip_to(std::uint64_t seq) noexcept;

  /// Another publisher: as new.
  void reset() noexcept { *this = SequenceTracker(); }

  /// The first batch that has not been applied (or given up).
  [[nodiscard]] std::uint64_t next() const noexcept { return next_; }

  /// Whether `content` is that of the batch `next() - 1`, if that one was applied.
  [[nodiscard]] bool is_last_applied(std::uint64_t content) const noexcept {
    return last_applied_content_ == content;
  }
  [[nodiscard]] bool has_last_applied() const noexcept { return last_applied_content_.has_value(); }

 private:
  struct Live {
    std::uint64_t seq;
    std::uint64_t content;
  };

  std::uint64_t next_ = 0;
  std::optional<Live> last_live_;
  std::optional<std::uint64_t> last_applied_content_;
  bool reconnected_ = false;
};

}  // namespace kvroute
