#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace kvroute::detail {

using Frame = std::span<const std::byte>;

/// A batch as it travels: its sequence number and its encoded events.
struct SequencedPayload {
  std::uint64_t seq;
  Frame payload;
};

/// The sequence number that marks a replay's end, and no batch has.
inline constexpr std::uint64_t kEndOfReplay = UINT64_MAX;

/// A live message: topic, sequence number, payload. Newer engines put more than the 8 bytes into
/// the second frame. Empty if the frames are anything else.
[[nodiscard]] std::optional<SequencedPayload> read_live_frames(std::span<const Frame> frames);

struct ReplayReply {
  enum class Kind : std::uint8_t { batch, end, malformed };
  Kind kind = Kind::malformed;
  SequencedPayload batch{};
};

/// A message of a replay, with or without the topic between delimiter and sequence number.
[[nodiscard]] ReplayReply read_replay_frames(std::span<const Frame> frames);

/// 8 bytes, big-endian.
void write_sequence(std::uint64_t seq, std::span<std::byte, 8> out) noexcept;

}  // namespace kvroute::detail
