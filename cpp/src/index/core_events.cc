#include <algorithm>
#include <mutex>

#include "index/tree_core.h"
#include "kvroute/base/error.h"

namespace kvroute::detail {
namespace {

constexpr std::uint8_t kNewlyExact = 2;

}  // namespace

StoreResult TreeCore::store(Slot slot, std::optional<std::uint64_t> parent,
                            std::span<const std::uint64_t> names,
                            std::span<const std::uint64_t> labels, std::uint64_t namespace_seed) {
  if (names.size() != labels.size()) {
    throw InvalidArgument("engine_hashes: expected one for each of the " +
                          std::to_string(labels.size()) + " local_hashes, got " +
                          std::to_string(names.size()));
  }
  const std::scoped_lock turn(writers_);
  SlotState& state = state_of(slot);
  StoreResult result;
  BlockPlace from{NodeTree::kRoot, 0};
  std::uint32_t consumed = 0;
  if (parent) {
    const SlotNames::Entry* entry = state.names.find(*parent);
    if (entry == nullptr) {
      result.unknown_parent = true;
      counters_.unknown_parents += labels.size();
      return result;
    }
    from = tree_.place_of(entry->block);
    consumed = from.at + 1;
  }
  if (labels.empty()) return result;
  {
    const std::scoped_lock alone(tree_lock_);
    find_path(from.node, consumed, labels, slot);
  }
  exact_.clear();
  for (const Segment& segment : path_) note_exact(slot, segment);
  lost_.clear();
  const bool path_changed = name_path(state, names, result);
  {
    const std::scoped_lock alone(tree_lock_);
    hold_path(slot, state, namespace_seed, path_changed, result);
    let_go_blocks(slot, state, lost_);
  }
  counters_.stored += result.applied;
  counters_.duplicates += result.duplicates;
  counters_.confirmed += result.confirmed;
  counters_.renamed += result.renamed;
  enforce_limit(path_.back().node, kNoBound);
  return result;
}

/// Appends to `exact_` which blocks of the segment the slot holds exactly.
void TreeCore::note_exact(Slot slot, const Segment& segment) {
  const Node& node = tree_.node(segment.node);
  const std::size_t first = exact_.size();
  exact_.resize(first + segment.end - segment.begin, 0);
  node.coverage.mark(slot, segment.begin, segment.end, exact_.data() + first);
  node.predicted.unmark(slot, segment.begin, segment.end, exact_.data() + first);
}

/// Enters the names of the blocks of `path_`, and keeps `exact_` true to them.
/// \return whether a block of the path has lost its name to a later one.
bool TreeCore::name_path(SlotState& state, std::span<const std::uint64_t> names,
                         StoreResult& result) {
  constexpr std::size_t kAhead = 8;
  SlotNames& table = state.names;
  bool path_changed = false;
  std::size_t i = 0;
  for (const Segment& segment : path_) {
    for (std::uint32_t at = segment.begin; at < segment.end; ++at, ++i) {
      if (i + kAhead < names.size()) table.prefetch(names[i + kAhead]);
      const BlockId block = tree_.block_at(segment.node, at);
      const auto [known, added] = table.try_emplace(names[i], SlotNames::Entry{block, 1});
      if (!added) {
        SlotNames::Entry& entry = *known;
        if (entry.block == block) {
          ++result.duplicates;
          if (options_.count_copies) ++entry.copies;
          continue;
        }
        const BlockId before = entry.block;
        entry = {block, 1};
        take_name(state, names[i], before, result, path_changed);
      }
      if (exact_[i] != 0) {
        state.names.add_further(block, names[i]);
        ++result.aliased;
      } else {
        state.names.add_first(block, names[i], tree_.shared_name(segment.node, at));
        exact_[i] = kNewlyExact;
        ++result.applied;
      }
    }
  }
  return path_changed;
}

/// A name that stood for the block `from` is announced for another one.
void TreeCore::take_name(SlotState& state, std::uint64_t name, BlockId from, StoreResult& result,
                         bool& path_changed) {
  ++result.renamed;
  const BlockPlace place = tree_.place_of(from);
  if (!state.names.drop(from, name, tree_.shared_name(place.node, place.at))) return;
  if (const auto index = index_in_path(from)) {
    if (exact_[*index] == kNewlyExact) --result.applied;
    exact_[*index] = 0;
    path_changed = true;
  } else {
    lost_.push_back(from);
  }
}

std::optional<std::size_t> TreeCore::index_in_path(BlockId block) const {
  const BlockPlace place = tree_.place_of(block);
  std::size_t before = 0;
  for (const Segment& segment : path_) {
    if (segment.node == place.node && segment.begin <= place.at && place.at < segment.end) {
      return before + place.at - segment.begin;
    }
    before += segment.end - segment.begin;
  }
  return std::nullopt;
}

/// Makes the path's blocks held exactly, but for those that `exact_` says are not any more.
void TreeCore::hold_path(Slot slot, SlotState& state, std::uint64_t namespace_seed,
                         bool path_changed, StoreResult& result) {
  const std::uint64_t tick = tick_.fetch_add(1, std::memory_order_relaxed) + 1;
  std::size_t i = 0;
  for (const Segment& segment : path_) {
    Node& node = tree_.node(segment.node);
    node.namespace_seed = namespace_seed;
    node.last_use.set(tick);
    if (!path_changed) {
      hold(slot, state, segment.node, segment.begin, segment.end, result);
      continue;
    }
    for (std::uint32_t at = segment.begin; at < segment.end; ++at, ++i) {
      StoreResult in_vain;  // of a block that lost its name within this event
      hold(slot, state, segment.node, at, at + 1, exact_[i] == 0 ? in_vain : result);
      if (exact_[i] == 0) let_go(slot, state, segment.node, at, at + 1);
    }
  }
  if (path_changed) tree_.prune(path_.back().node);
}

void TreeCore::hold(Slot slot, SlotState& state, NodeId id, std::uint32_t begin, std::uint32_t end,
                    StoreResult& result) {
  Node& node = tree_.node(id);
  if (!node.predicted.empty()) {
    const std::uint32_t confirmed = node.predicted.take(slot, begin, end, bytes_.requests);
    result.confirmed += confirmed;
    state.predicted -= confirmed;
  }
  state.held += node.coverage.add(slot, begin, end, node.length, bytes_.coverage);
}

/// Exact blocks of one node stop being held. \return how many.
std::uint32_t TreeCore::let_go(Slot slot, SlotState& state, NodeId id, std::uint32_t begin,
                               std::uint32_t end) {
  Node& node = tree_.node(id);
  const std::uint32_t gone = node.coverage.remove(slot, begin, end, node.length, bytes_.coverage);
  state.held -= gone;
  return gone;
}

/// Exact blocks stop being held. Neighbours in the list that are neighbours in a run, in either
/// direction, are taken as one range.
void TreeCore::let_go_blocks(Slot slot, SlotState& state, std::span<const BlockId> blocks) {
  touched_.clear();
  const RunStore& runs = tree_.runs();
  for (std::size_t i = 0; i < blocks.size();) {
    const RunStore::Position first = runs.position(blocks[i]);
    std::uint32_t begin = first.offset;
    std::uint32_t end = begin + 1;
    while (++i < blocks.size()) {
      const RunStore::Position next = runs.position(blocks[i]);
      if (next.run != first.run || (next.offset != end && next.offset + 1 != begin)) break;
      begin = std::min(begin, next.offset);
      end = std::max(end, next.offset + 1);
    }
    while (begin < end) {
      const NodeId id = runs.node_at({first.run, begin});
      const Node& node = tree_.node(id);
      const std::uint32_t stop = std::min(end, node.begin + node.length);
      let_go(slot, state, id, begin - node.begin, stop - node.begin);
      if (touched_.empty() || touched_.back() != id) touched_.push_back(id);
      begin = stop;
    }
  }
  for (const NodeId id : touched_) {
    if (tree_.live(id)) tree_.prune(id);
  }
}

RemoveResult TreeCore::remove(Slot slot, std::span<const std::uint64_t> names) {
  const std::scoped_lock turn(writers_);
  SlotState& state = state_of(slot);
  RemoveResult result;
  lost_.clear();
  constexpr std::size_t kAhead = 8;
  SlotNames& table = state.names;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i + kAhead < names.size()) table.prefetch(names[i + kAhead]);
    SlotNames::Entry* const entry = table.find(names[i]);
    if (entry == nullptr) {
      ++result.unknown;
      continue;
    }
    if (--entry->copies > 0) {
      ++result.kept;
      continue;
    }
    const BlockId block = entry->block;
    table.erase(names[i]);
    const BlockPlace place = tree_.place_of(block);
    if (state.names.drop(block, names[i], tree_.shared_name(place.node, place.at))) {
      lost_.push_back(block);
    } else {
      ++result.kept;
    }
  }
  result.removed = static_cast<std::uint32_t>(lost_.size());
  {
    const std::scoped_lock alone(tree_lock_);
    let_go_blocks(slot, state, lost_);
  }
  state.names.shrink_sparse(SlotNames::kAllTables);
  all_in_use_ = false;
  counters_.removed += result.removed;
  counters_.unknown_removed += result.unknown;
  return result;
}

}  // namespace kvroute::detail
