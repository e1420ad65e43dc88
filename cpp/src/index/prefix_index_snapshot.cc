#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>

#include "index/snapshot_bytes.h"
#include "kvroute/index/prefix_index.h"

// A SnapshotFormat of these fields, all numbers of fixed width:
//   slots u32, and for each slot: kind u8 (kNobody, or what its worker's name is), then dp_rank u32
//     and the name: i64, or length u32 and UTF-8,
//   the tree's snapshot: length u64 and its bytes.

namespace kvroute {
namespace {

using detail::refuse_snapshot;
using detail::SnapshotReader;
using detail::SnapshotWriter;

constexpr detail::SnapshotFormat kFormat{
    .magic = "KVRTINDX", .version = 1, .version_bytes = 4, .whose = "PrefixIndex::snapshot"};
constexpr std::uint8_t kNobody = 0;
constexpr std::uint8_t kInteger = 1;
constexpr std::uint8_t kText = 2;

void write_target(const std::optional<TargetId>& target, SnapshotWriter& out) {
  if (!target) {
    out.fixed(kNobody);
    return;
  }
  const auto* const number = std::get_if<std::int64_t>(&target->worker);
  out.fixed(number != nullptr ? kInteger : kText);
  out.fixed(target->dp_rank);
  if (number != nullptr) {
    out.fixed(*number);
  } else {
    const auto& text = std::get<std::string>(target->worker);
    out.fixed(static_cast<std::uint32_t>(text.size()));
    out.text(text);
  }
}

/// Whether these are well-formed sequences of RFC 3629: no surrogates, none longer than it must be.
bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto lead = static_cast<std::uint8_t>(text[at]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4 || length > text.size() - at) return false;
    std::uint32_t value = length == 1 ? lead : lead & (0x7fU >> length);
    for (std::size_t i = 1; i < length; ++i) {
      const auto byte = static_cast<std::uint8_t>(text[at + i]);
      if ((byte & 0xc0U) != 0x80) return false;
      value = value << 6 | (byte & 0x3fU);
    }
    const bool surrogate = value >= 0xd800 && value < 0xe000;
    if (surrogate || value > 0x10ffff || (length == 3 && value < 0x800) ||
        (length == 4 && value < 0x10000)) {
      return false;
    }
    at += length;
  }
  return true;
}

std::optional<TargetId> read_target(SnapshotReader& in) {
  const auto kind = in.fixed<std::uint8_t>();
  if (kind == kNobody) return std::nullopt;
  if (kind != kInteger && kind != kText) refuse_snapshot("a kind of name", std::to_string(kind));
  TargetId target;
  target.dp_rank = in.fixed<std::uint32_t>();
  if (kind == kInteger) {
    target.worker = in.fixed<std::int64_t>();
  } else {
    const std::string_view text = in.take(in.fixed<std::uint32_t>());
    if (!is_utf8(text)) refuse_snapshot("names in UTF-8", "other bytes");
    target.worker = std::string(text);
  }
  return target;
}

}  // namespace

std::string PrefixIndex::snapshot() const {
  SnapshotWriter out(kFormat);
  std::string tree;
  {
    const std::scoped_lock unchanging(membership_);
    const auto by_slot = names();
    out.fixed(static_cast<std::uint32_t>(by_slot.size()));
    for (const auto& target : by_slot) write_target(target, out);
    tree = tree_->snapshot(Nanoseconds{0});
  }
  out.reserve(sizeof(std::uint64_t) + tree.size());
  out.fixed(std::uint64_t{tree.size()});
  out.text(tree);
  return out.seal();
}

/// What the tree holds for slots that have no target. Blocks and chains of those from `places` were
/// being removed when the snapshot was taken, and go; nobody wrote any beyond these, or
/// predictions.
void PrefixIndex::release_unnamed(PrefixTree& tree, std::span<const Place> places) {
  std::vector<std::size_t> by_slot;
  tree.held_blocks(by_slot);
  const IndexStats loaded = tree.stats();
  if (by_slot.size() > places.size()) {
    refuse_snapshot("a tree of " + std::to_string(places.size()) + " slots",
                    std::to_string(by_slot.size()));
  }
  if (loaded.held_predicted > 0) {
    refuse_snapshot("no predictions", std::to_string(loaded.held_predicted) + " blocks");
  }
  for (auto slot = places.size(); loaded.waiting > 0 && slot < kMaxTargets; ++slot) {
    tree.release_slot(static_cast<Slot>(slot));
  }
  if (const std::size_t lost = loaded.waiting - tree.stats().waiting; lost > 0) {
    refuse_snapshot("chains that wait for a slot of the index",
                    std::to_string(lost) + " blocks for another");
  }
  for (Slot slot = 0; slot < places.size(); ++slot) {
    if (!places[slot].target) tree.release_slot(slot);
  }
}

// The new content is built aside, so that bytes which are refused leave the index alone, and
// matches go on meanwhile.
void PrefixIndex::restore(std::string_view snapshot) {
  SnapshotReader in = open_snapshot(kFormat, snapshot);
  const auto count = in.fixed<std::uint32_t>();
  if (count > kMaxTargets) {
    refuse_snapshot("at most " + std::to_string(kMaxTargets) + " targets", std::to_string(count));
  }
  std::vector<Place> places(count);
  std::unordered_map<TargetId, Slot> slots;
  for (Slot slot = 0; slot < count; ++slot) {
    places[slot].target = read_target(in);
    const auto& target = places[slot].target;
    if (target && !slots.emplace(*target, slot).second) {
      refuse_snapshot("each target once", to_string(*target) + " twice");
    }
  }
  auto tree = std::make_shared<PrefixTree>(options_);
  tree->restore(in.take(in.fixed<std::uint64_t>()), Nanoseconds{0});
  if (in.left() > 0) refuse_snapshot("its end after the tree", "further bytes");
  release_unnamed(*tree, places);
  const std::scoped_lock changing(membership_);
  {
    const std::scoped_lock unused(in_use_);
    const std::scoped_lock lock(mutex_);
    tree_.swap(tree);
    slots_.swap(slots);
    places_.swap(places);
  }
}

}  // namespace kvroute
