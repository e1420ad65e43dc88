#include "events/frames.h"

namespace kvroute::detail {
namespace {

constexpr std::size_t kSequenceBytes = 8;

[[nodiscard]] std::optional<std::uint64_t> read_sequence(Frame frame) noexcept {
  if (frame.size() < kSequenceBytes) return std::nullopt;
  std::uint64_t seq = 0;
  for (const std::byte byte : frame.first(kSequenceBytes)) {
    seq = (seq << 8) | std::to_integer<std::uint64_t>(byte);
  }
  return seq;
}

}  // namespace

std::optional<SequencedPayload> read_live_frames(std::span<const Frame> frames) {
  if (frames.size() != 3) return std::nullopt;
  const std::optional<std::uint64_t> seq = read_sequence(frames[1]);
  if (!seq || *seq == kEndOfReplay) return std::nullopt;
  return SequencedPayload{*seq, frames[2]};
}

ReplayReply read_replay_frames(std::span<const Frame> frames) {
  if (!frames.empty() && frames.front().empty()) frames = frames.subspan(1);
  if (frames.size() != 2 && frames.size() != 3) return {};
  // The newer end mark has its number in the last place, the older one before an empty payload.
  const std::optional<std::uint64_t> last = read_sequence(frames.back());
  const std::optional<std::uint64_t> seq = read_sequence(frames[frames.size() - 2]);
  const bool marked_last = last == kEndOfReplay && frames.back().size() == kSequenceBytes;
  if (seq == kEndOfReplay || (marked_last && !seq)) return {ReplayReply::Kind::end, {}};
  if (!seq) return {};
  if (frames.back().empty()) return {ReplayReply::Kind::end, {}};
  return {ReplayReply::Kind::batch, {*seq, frames.back()}};
}

void write_sequence(std::uint64_t seq, std::span<std::byte, 8> out) noexcept {
  for (std::size_t i = kSequenceBytes; i-- > 0; seq >>= 8) {
    out[i] = static_cast<std::byte>(seq & 0xFFU);
  }
}

}  // namespace kvroute::detail
