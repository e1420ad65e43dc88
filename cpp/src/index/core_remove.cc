#include <algorithm>
#include <mutex>

#include "index/tree_core.h"

namespace kvroute::detail {

RemoveResult TreeCore::remove(LaneId lane, std::span<const std::uint64_t> names) {
  RemoveResult result;
  {
    const std::scoped_lock turn(writers_);
    static_cast<void>(holder_of(lane));
    heap_.note(bytes_->total());
    result = remove_held(lane, stored_form(names), waiting_->any(lane.slot));
    all_in_use_ = false;
    counters_.removed += result.removed;
    counters_.unknown_removed += result.unknown;
    if (!heap_.due(bytes_->total())) return result;
  }
  HeapRelief::give_back();
  return result;
}

/// Names are looked up first, so that the tree is locked only while ranges of blocks are let go.
RemoveResult TreeCore::remove_held(LaneId lane, std::span<const std::uint64_t> names,
                                   bool waiting_too) {
  Holder& holder = holder_of(lane);
  RemoveResult result;
  touched_.clear();
  if (waiting_too || (holder.odd != nullptr && holder.odd->any_alias())) {
    const std::scoped_lock alone(tree_lock_);
    remove_one_by_one(lane, holder, names, waiting_too, result);
    tidy_touched();
  } else {
    find_ranges(lane, holder, names, result);
    const std::scoped_lock alone(tree_lock_);
    for (const RunRange& range : ranges_) {
      const std::uint32_t removed = remove_range(lane, holder, range);
      result.removed += removed;
      result.unknown += range.end - range.begin - removed;
    }
    tidy_touched();
  }
  tidy_odd_names(holder);
  update_shared_names();
  return result;
}

/// Ranges of blocks that have these names, into `ranges_`: neighbours in the list that are
/// neighbours in a run, in either direction, need no look into a table. Blocks that one of the
/// ranges holds only by prediction, or twice, are for `remove_range` to find out.
void TreeCore::find_ranges(LaneId lane, Holder& holder, std::span<const std::uint64_t> names,
                           RemoveResult& result) {
  const RunStore& runs = tree_->runs();
  const bool own_names = holder.own.size() > 0;
  ranges_.clear();
  const OwnNames* row = nullptr;
  const std::uint64_t* shared = nullptr;
  const auto is_named = [&](std::uint32_t offset, std::uint64_t name) {
    if (const std::uint64_t own = row != nullptr ? row->at(offset) : 0; own != 0) {
      return own == name;
    }
    return !own_names && shared[offset] == name;
  };
  for (const std::uint64_t name : names) {
    if (holder.odd != nullptr && holder.odd->drop_copy(name)) {
      ++result.kept;
      continue;
    }
    if (!ranges_.empty()) {
      RunRange& last = ranges_.back();
      if (last.begin > 0 && is_named(last.begin - 1, name)) {
        --last.begin;
        continue;
      }
      if (last.end < runs.length(last.run) && is_named(last.end, name)) {
        ++last.end;
        continue;
      }
    }
    const BlockId block = find_name(lane, holder, name);
    if (block == kNoId) {
      ++result.unknown;
      continue;
    }
    const RunStore::Position at = runs.position(block);
    ranges_.push_back({at.run, at.offset, at.offset + 1});
    row = own_names ? runs.own_names(at.run).find(lane) : nullptr;
    shared = runs.shared_names(at.run);
  }
}

/// \return how many blocks of the range the lane held exactly, and no longer holds.
std::uint32_t TreeCore::remove_range(LaneId lane, Holder& holder, const RunRange& range) {
  std::uint32_t removed = 0;
  for (std::uint32_t begin = range.begin; begin < range.end;) {
    const NodeId id = tree_->runs().node_at({range.run, begin});
    const Node& node = tree_->node(id);
    const std::uint32_t stop = std::min(range.end, node.begin + node.length);
    const Segment segment{id, begin - node.begin, stop - node.begin};
    exact_.clear();
    note_exact(lane, segment);
    for (auto from = exact_.begin();;) {
      from = std::find(from, exact_.end(), std::uint8_t{1});
      if (from == exact_.end()) break;
      const auto to = std::find(from, exact_.end(), std::uint8_t{0});
      const auto first = segment.begin + static_cast<std::uint32_t>(from - exact_.begin());
      const auto last = segment.begin + static_cast<std::uint32_t>(to - exact_.begin());
      drop_names(lane, holder, range.run, node.begin + first, node.begin + last);
      removed += let_go(lane, holder, id, first, last);
      from = to;
    }
    touched_.push_back(id);
    begin = stop;
  }
  return removed;
}

/// For a lane some of whose blocks have several names, or may wait under one that is held.
void TreeCore::remove_one_by_one(LaneId lane, Holder& holder, std::span<const std::uint64_t> names,
                                 bool waiting_too, RemoveResult& result) {
  for (const std::uint64_t name : names) {
    const bool held = remove_one(lane, holder, name, result);
    if (held && options_.count_copies) continue;
    // Where one removal is enough, it is for those that wait under the name as well.
    const std::size_t waited =
        waiting_too ? waiting_->remove(lane.slot, lane.tier, name, !options_.count_copies) : 0;
    result.waiting += static_cast<std::uint32_t>(waited);
    if (!held && waited == 0) ++result.unknown;
  }
}

/// \return whether the lane held a block by this name.
bool TreeCore::remove_one(LaneId lane, Holder& holder, std::uint64_t name, RemoveResult& result) {
  if (holder.odd != nullptr && holder.odd->drop_copy(name)) {
    ++result.kept;
    return true;
  }
  const BlockId block = find_name(lane, holder, name);
  if (block == kNoId) return false;
  if (!drop_name(lane, holder, block, name)) {
    ++result.kept;
    return true;
  }
  const BlockPlace place = tree_->place_of(block);
  let_go(lane, holder, place.node, place.at, place.at + 1);
  touched_.push_back(place.node);
  ++result.removed;
  return true;
}

/// Blocks of one node, whose names are gone, stop being held. \return how many were.
std::uint32_t TreeCore::let_go(LaneId lane, Holder& holder, NodeId id, std::uint32_t begin,
                               std::uint32_t end) {
  Node& node = tree_->node(id);
  if (node.coverage_in(lane.tier).empty()) return 0;
  Coverage& coverage = node.make_coverage_in(lane.tier, bytes_->nodes);
  const std::uint32_t gone = coverage.remove(lane.slot, begin, end, node.length, bytes_->coverage);
  holder.held -= gone;
  if (lane.tier != Tier::device) {
    if (holder.held == 0) note_lower(lane.slot);
    node.tidy_extras(bytes_->nodes);
  }
  return gone;
}

/// Frees what nobody needs any longer of the nodes in `touched_`, and merges what is left.
void TreeCore::tidy_touched() {
  for (NodeId& id : touched_) {
    if (tree_->live(id)) id = tree_->prune(id);
  }
  for (const NodeId id : touched_) tree_->merge(id);
}

}  // namespace kvroute::detail
