#include <algorithm>
#include <mutex>

#include "index/tree_core.h"
#include "kvroute/base/error.h"

namespace kvroute::detail {

StoreResult TreeCore::store(LaneId lane, std::optional<std::uint64_t> parent,
                            std::span<const std::uint64_t> names,
                            std::span<const std::uint64_t> labels, std::uint64_t namespace_seed) {
  if (names.size() != labels.size()) {
    throw InvalidArgument("engine_hashes: expected one for each of the " +
                          std::to_string(labels.size()) + " local_hashes, got " +
                          std::to_string(names.size()));
  }
  const std::scoped_lock turn(writers_);
  static_cast<void>(holder_of(lane));
  names = stored_form(names);
  StoreResult result;
  BlockPlace from{NodeTree::kRoot, 0};
  std::uint32_t consumed = 0;
  if (parent) {
    const BlockId block = find_in_any_tier(lane.slot, stored_form(*parent));
    if (block == kNoId) {
      wait_for_parent(lane, stored_form(*parent), names, labels, namespace_seed, result);
      return result;
    }
    from = tree_->place_of(block);
    consumed = from.at + 1;
  }
  if (labels.empty()) {
    enforce_limit(NodeTree::kRoot, kNoBound);  // the lane may be new
    return result;
  }
  result = store_below(lane, from.node, consumed, names, labels, namespace_seed);
  const NodeId newest = path_.back().node;
  if (waiting_->any(lane.slot)) {
    result.adopted = adopt(lane.slot, names);
    if (result.adopted > 0) all_in_use_ = false;  // what is new need not be below the root alone
    enforce_limit(NodeTree::kRoot, kNoBound);
  } else {
    enforce_limit(newest, kNoBound);
  }
  return result;
}

/// Stores a chain below the first `consumed` blocks of `from`.
StoreResult TreeCore::store_below(LaneId lane, NodeId from, std::uint32_t consumed,
                                  std::span<const std::uint64_t> names,
                                  std::span<const std::uint64_t> labels,
                                  std::uint64_t namespace_seed) {
  {
    const std::scoped_lock alone(tree_lock_);
    find_path(from, consumed, labels);
  }
  return store_path(lane, names, namespace_seed);
}

/// The lane now holds the blocks of `path_` under these names.
StoreResult TreeCore::store_path(LaneId lane, std::span<const std::uint64_t> names,
                                 std::optional<std::uint64_t> namespace_seed) {
  Holder& holder = holder_of(lane);
  StoreResult result;
  exact_.clear();
  for (const Segment& segment : path_) note_exact(lane, segment);
  lost_.clear();
  const bool path_changed = name_path(lane, holder, names, result);
  {
    const std::scoped_lock alone(tree_lock_);
    hold_path(lane, holder, namespace_seed, path_changed, result);
  }
  update_shared_names();
  counters_.stored += result.applied;
  counters_.duplicates += result.duplicates;
  counters_.confirmed += result.confirmed;
  counters_.renamed += result.renamed;
  return result;
}

/// Makes the path's blocks held exactly, but for those that `exact_` says are not any more, and
/// lets go of those that have lost their names.
void TreeCore::hold_path(LaneId lane, Holder& holder, std::optional<std::uint64_t> namespace_seed,
                         bool path_changed, StoreResult& result) {
  const std::uint32_t tick = next_tick();
  std::size_t i = 0;
  touched_.clear();
  for (const Segment& segment : path_) {
    const Node& node = tree_->node(segment.node);
    if (namespace_seed) tree_->runs().set_namespace_seed(node.run, *namespace_seed);
    node.last_use.set(tick);
    if (!path_changed) {
      hold(lane, holder, segment.node, segment.begin, segment.end, result);
      continue;
    }
    touched_.push_back(segment.node);
    for (std::uint32_t at = segment.begin; at < segment.end; ++at, ++i) {
      StoreResult in_vain;  // of a block that lost its name within this event
      hold(lane, holder, segment.node, at, at + 1, exact_[i] == 0 ? in_vain : result);
      if (exact_[i] == 0) let_go(lane, holder, segment.node, at, at + 1);
    }
  }
  for (const BlockId block : lost_) {
    const BlockPlace place = tree_->place_of(block);
    let_go(lane, holder, place.node, place.at, place.at + 1);
    touched_.push_back(place.node);
  }
  if (!touched_.empty()) tidy_touched();
}

void TreeCore::hold(LaneId lane, Holder& holder, NodeId id, std::uint32_t begin, std::uint32_t end,
                    StoreResult& result) {
  Node& node = tree_->node(id);
  if (lane.tier == Tier::device && !node.predicted().empty()) {
    const std::uint32_t confirmed =
        node.make_extras(bytes_->nodes).predicted.take(lane.slot, begin, end, bytes_->requests);
    node.tidy_extras(bytes_->nodes);
    result.confirmed += confirmed;
    holder.predicted -= confirmed;
  }
  Coverage& coverage = node.make_coverage_in(lane.tier, bytes_->nodes);
  const std::uint32_t added = coverage.add(lane.slot, begin, end, node.length, bytes_->coverage);
  holder.held += added;
  if (lane.tier != Tier::device && added > 0) note_lower(lane.slot);
}

StoreResult TreeCore::store_known(LaneId lane, std::span<const std::uint64_t> names) {
  const std::scoped_lock turn(writers_);
  static_cast<void>(holder_of(lane));
  names = stored_form(names);
  StoreResult total;
  for (std::size_t i = 0; i < names.size();) {
    const BlockId block = find_in_any_tier(lane.slot, names[i]);
    if (block == kNoId) {
      ++total.unknown;
      ++i;
      continue;
    }
    const BlockPlace place = tree_->place_of(block);
    const Node& node = tree_->node(place.node);
    const std::size_t first = i++;
    std::uint32_t end = place.at + 1;
    while (i < names.size() && end < node.length &&
           find_in_any_tier(lane.slot, names[i]) == tree_->block_at(place.node, end)) {
      ++i;
      ++end;
    }
    path_.assign(1, {place.node, place.at, end});
    const StoreResult some = store_path(lane, names.subspan(first, i - first), std::nullopt);
    total.applied += some.applied;
    total.duplicates += some.duplicates;
    total.aliased += some.aliased;
    total.confirmed += some.confirmed;
    total.renamed += some.renamed;
  }
  enforce_limit(NodeTree::kRoot, kNoBound);
  return total;
}

void TreeCore::wait_for_parent(LaneId lane, std::uint64_t parent,
                               std::span<const std::uint64_t> names,
                               std::span<const std::uint64_t> labels, std::uint64_t namespace_seed,
                               StoreResult& result) {
  result.unknown_parent = true;
  if (!labels.empty()) {
    counters_.unknown_parents += labels.size();
    counters_.waited_in_vain +=
        waiting_->add(lane.slot, lane.tier, parent, namespace_seed, names, labels);
    if (labels.size() <= options_.max_waiting) {
      result.waiting = static_cast<std::uint32_t>(labels.size());
    }
  }
  enforce_limit(NodeTree::kRoot, kNoBound);
}

/// Stores the chains that have waited for one of these names, and those that wait for theirs.
/// \return how many blocks have been adopted.
std::uint32_t TreeCore::adopt(Slot slot, std::span<const std::uint64_t> names) {
  std::vector<std::uint64_t> known(names.begin(), names.end());
  std::vector<std::uint64_t> gone;
  std::uint32_t adopted = 0;
  for (std::size_t i = 0; i < known.size() && waiting_->any(slot); ++i) {
    while (true) {
      const BlockId parent = find_in_any_tier(slot, known[i]);
      if (parent == kNoId) break;
      const auto chain = waiting_->take(slot, known[i]);
      if (!chain) break;
      const BlockPlace from = tree_->place_of(parent);
      if (chain->namespace_seed != tree_->runs().namespace_seed(tree_->node(from.node).run) ||
          !has_ids_for(chain->labels.size())) {
        counters_.waited_in_vain += static_cast<std::uint64_t>(
            std::count(chain->gone.begin(), chain->gone.end(), std::uint8_t{0}));
        continue;
      }
      const LaneId lane{slot, chain->tier};
      gone.clear();
      for (std::size_t at = 0; at < chain->names.size(); ++at) {
        if (chain->gone[at] == 0) {
          ++adopted;
        } else if (options_.count_copies ||
                   find_name(lane, holder_of(lane), chain->names[at]) == kNoId) {
          gone.push_back(chain->names[at]);  // else it has been announced again since
        }
      }
      store_below(lane, from.node, from.at + 1, chain->names, chain->labels, chain->namespace_seed);
      if (!gone.empty()) static_cast<void>(remove_held(lane, gone, false));
      known.insert(known.end(), chain->names.begin(), chain->names.end());
    }
  }
  counters_.adopted += adopted;
  return adopted;
}

}  // namespace kvroute::detail
