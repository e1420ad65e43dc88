// Under which engine hash a lane knows which block.

#include <algorithm>

#include "index/tree_core.h"

namespace kvroute::detail {
namespace {

/// What stands for engine hash 0 inside, where 0 means none: as improbable as any hash.
constexpr std::uint64_t kNameOfZero = 0x9d39247e33776d41ULL;

}  // namespace

/// The names as they are kept. Valid until the next call.
std::span<const std::uint64_t> TreeCore::stored_form(std::span<const std::uint64_t> names) {
  if (std::find(names.begin(), names.end(), 0U) == names.end()) return names;
  names_.assign(names.begin(), names.end());
  std::replace(names_.begin(), names_.end(), std::uint64_t{0}, kNameOfZero);
  return names_;
}

std::uint64_t TreeCore::stored_form(std::uint64_t name) noexcept {
  return name == 0 ? kNameOfZero : name;
}

std::uint64_t TreeCore::given_form(std::uint64_t name) noexcept {
  return name == kNameOfZero ? 0 : name;
}

BlockId TreeCore::find_shared(std::uint64_t name) const {
  const RunStore& runs = tree_->runs();
  return shared_.find(
      name, [&](BlockId block) { return runs.shared_name(runs.position(block)) == name; });
}

bool TreeCore::holds_exactly(LaneId lane, BlockId block) const {
  const BlockPlace place = tree_->place_of(block);
  return tree_->node(place.node).holds_exactly(lane.slot, lane.tier, place.at);
}

/// Of a block that the lane holds exactly: whether its first name is the shared one.
bool TreeCore::agrees_on(LaneId lane, RunStore::Position at) const {
  const OwnNameRows& own = tree_->runs().own_names(at.run);
  return own.empty() || own.at(lane, at.offset) == 0;
}

std::uint64_t TreeCore::first_name(LaneId lane, RunStore::Position at) const {
  const std::uint64_t own = tree_->runs().own_names(at.run).at(lane, at.offset);
  return own != 0 ? own : tree_->runs().shared_name(at);
}

/// The block that the lane holds under this name; kNoId: none.
BlockId TreeCore::find_name(LaneId lane, const Holder& holder, std::uint64_t name) const {
  const BlockId shared = find_shared(name);
  if (shared != kNoId && holds_exactly(lane, shared) &&
      agrees_on(lane, tree_->runs().position(shared))) {
    return shared;
  }
  return find_unshared(lane, holder, name);
}

/// The block that the lane alone knows by this name, its own first one or an alias; kNoId: none.
BlockId TreeCore::find_unshared(LaneId lane, const Holder& holder, std::uint64_t name) const {
  const RunStore& runs = tree_->runs();
  if (holder.own.size() > 0) {
    const BlockId own = holder.own.find(name, [&](BlockId block) {
      const RunStore::Position at = runs.position(block);
      return runs.own_names(at.run).at(lane, at.offset) == name;
    });
    if (own != kNoId) return own;
  }
  return holder.odd != nullptr ? holder.odd->find_alias(name) : kNoId;
}

BlockId TreeCore::find_in_any_tier(Slot slot, std::uint64_t name) const {
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    const LaneId lane{slot, static_cast<Tier>(tier)};
    const Holder* holder = find_holder(lane);
    if (holder == nullptr || holder->held == 0) continue;
    if (const BlockId block = find_name(lane, *holder, name); block != kNoId) return block;
  }
  return kNoId;
}

/// Whether any lane but that one knows the block by its shared name.
bool TreeCore::shared_name_needed(BlockId block, LaneId but) const {
  const BlockPlace place = tree_->place_of(block);
  const Node& node = tree_->node(place.node);
  const RunStore::Position position = tree_->position(place.node, place.at);
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    bool needed = false;
    node.coverage_in(static_cast<Tier>(tier)).for_each_holder([&](Slot slot) {
      const LaneId lane{slot, static_cast<Tier>(tier)};
      needed = needed || (lane != but && node.holds_exactly(slot, lane.tier, place.at) &&
                          agrees_on(lane, position));
    });
    if (needed) return true;
  }
  return false;
}

void TreeCore::set_own_name(LaneId lane, Holder& holder, BlockId block, std::uint64_t name,
                            std::uint32_t until) {
  const RunStore::Position at = tree_->runs().position(block);
  tree_->runs().own_names(at.run).set(lane, at.offset, name, until, bytes_->names);
  holder.own.insert(name, block);
}

/// Does nothing where the lane has no name of its own.
void TreeCore::clear_own_name(LaneId lane, Holder& holder, RunStore::Position at) {
  OwnNameRows& own = tree_->runs().own_names(at.run);
  if (own.empty()) return;
  const std::uint64_t name = own.clear(lane, at.offset, bytes_->names);
  if (name != 0) holder.own.erase(name, tree_->runs().block(at));
}

/// The block, which the lane holds exactly, is not known by this name of its any longer.
/// \return whether that was the last one.
bool TreeCore::drop_name(LaneId lane, Holder& holder, BlockId block, std::uint64_t name) {
  const RunStore::Position at = tree_->runs().position(block);
  if (holder.odd == nullptr) {
    clear_own_name(lane, holder, at);
    return true;
  }
  holder.odd->drop_copies(name);
  if (holder.odd->drop_alias(block, name)) return false;
  clear_own_name(lane, holder, at);
  const auto alias = holder.odd->take_alias(block);
  if (alias) set_own_name(lane, holder, block, *alias, at.offset + 1);
  return !alias;
}

/// Blocks that the lane holds exactly lose all their names.
void TreeCore::drop_names(LaneId lane, Holder& holder, RunId run, std::uint32_t begin,
                          std::uint32_t end) {
  if (holder.agrees()) return;
  const RunStore& runs = tree_->runs();
  for (std::uint32_t offset = begin; offset < end; ++offset) {
    const RunStore::Position at{run, offset};
    if (holder.odd != nullptr) {
      const std::uint64_t own = runs.own_names(run).at(lane, offset);
      holder.odd->drop_copies(own != 0 ? own : runs.shared_name(at));
      while (const auto alias = holder.odd->take_alias(runs.block(at))) {
        holder.odd->drop_copies(*alias);
      }
    }
    clear_own_name(lane, holder, at);
  }
  tidy_odd_names(holder);
}

/// `drop_names` of what the lane holds exactly of the segment. \return how many blocks that is.
std::uint32_t TreeCore::drop_exact_names(LaneId lane, Holder& holder, const Segment& segment) {
  const RunStore::Position begin = tree_->position(segment.node, segment.begin);
  std::uint32_t dropped = 0;
  exact_.clear();
  note_exact(lane, segment);
  for (auto from = exact_.begin();;) {
    from = std::find(from, exact_.end(), std::uint8_t{1});
    if (from == exact_.end()) return dropped;
    const auto to = std::find(from, exact_.end(), std::uint8_t{0});
    drop_names(lane, holder, begin.run,
               begin.offset + static_cast<std::uint32_t>(from - exact_.begin()),
               begin.offset + static_cast<std::uint32_t>(to - exact_.begin()));
    dropped += static_cast<std::uint32_t>(to - from);
    from = to;
  }
}

OddNames& TreeCore::odd_names(Holder& holder) {
  if (holder.odd == nullptr) {
    holder.odd = std::make_unique<OddNames>(&bytes_->names, &tree_->fixed_blocks());
    bytes_->names += sizeof(OddNames);
  }
  return *holder.odd;
}

void TreeCore::tidy_odd_names(Holder& holder) {
  if (holder.odd == nullptr || !holder.odd->empty()) return;
  holder.odd.reset();
  bytes_->names -= sizeof(OddNames);
}

}  // namespace kvroute::detail
