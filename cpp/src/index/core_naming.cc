// The names that a stored event gives to the blocks of `path_`. Meanwhile `exact_` and `lost_` say
// what the lane will hold when the event is applied; coverage says what it held before.

#include <algorithm>
#include <iterator>

#include "index/mismatch.h"
#include "index/tree_core.h"

namespace kvroute::detail {
namespace {

constexpr std::uint8_t kNewlyExact = 2;
constexpr std::size_t kAhead = 16;  // names that are prefetched

}  // namespace

/// Enters the names of the blocks of `path_`, and keeps `exact_` true to them.
/// \return whether a block of the path has lost its name to a later one.
bool TreeCore::name_path(LaneId lane, Holder& holder, std::span<const std::uint64_t> names,
                         StoreResult& result) {
  std::size_t first = 0;
  for (const Segment& segment : path_) {
    const std::uint32_t count = segment.end - segment.begin;
    const RunStore::Position begin = tree_->position(segment.node, segment.begin);
    for (std::uint32_t done = 0; done < count;) {
      if (holder.has_shared_names_only()) {
        done += name_range(holder, {segment.node, segment.begin + done, segment.end}, first + done,
                           names, result);
      }
      if (done == count) break;
      if (const std::size_t ahead = first + done + kAhead; ahead < names.size()) {
        shared_.prefetch(names[ahead]);
        holder.own.prefetch(names[ahead]);
      }
      const BlockId block = tree_->runs().block({begin.run, begin.offset + done});
      name_block(lane, holder, first + done, block, begin.offset + count, names[first + done],
                 result);
      ++done;
    }
    first += count;
  }
  return std::find(exact_.begin(), exact_.end(), std::uint8_t{0}) != exact_.end();
}

/// Of a lane that has shared names only: those blocks of the segment, from its begin, whose shared
/// name is what the event says, or that have none until now. \return how many these are.
std::uint32_t TreeCore::name_range(Holder& holder, const Segment& segment, std::size_t first,
                                   std::span<const std::uint64_t> names, StoreResult& result) {
  static const MismatchFunction mismatch = best_mismatch();
  RunStore& runs = tree_->runs();
  const RunStore::Position at = tree_->position(segment.node, segment.begin);
  const std::uint32_t count = segment.end - segment.begin;
  std::uint64_t* const shared = runs.shared_names(at.run) + at.offset;
  const auto same = static_cast<std::uint32_t>(mismatch(shared, names.data() + first, count));
  for (std::uint32_t i = 0; i < same; ++i) {
    std::uint8_t& exact = exact_[first + i];
    if (exact == 0) {
      exact = kNewlyExact;
      ++result.applied;
    } else {
      ++result.duplicates;
      if (options_.count_copies) odd_names(holder).add_copy(names[first + i]);
    }
  }
  std::uint32_t done = same;
  for (std::uint32_t i = done; i < count && i < done + kAhead; ++i) {
    shared_.prefetch(names[first + i]);
  }
  for (; done < count && shared[done] == 0; ++done) {
    if (done + kAhead < count) shared_.prefetch(names[first + done + kAhead]);
    const std::uint64_t name = names[first + done];
    const BlockId block = runs.block({at.run, at.offset + done});
    const BlockId other = shared_.find_or_insert(
        name, block, [&](BlockId known) { return runs.shared_name(runs.position(known)) == name; });
    if (other != kNoId) break;
    shared[done] = name;
    exact_[first + done] = kNewlyExact;
    ++result.applied;
  }
  return done;
}

/// Names one block of the path in every case there is.
void TreeCore::name_block(LaneId lane, Holder& holder, std::size_t index, BlockId block,
                          std::uint32_t run_end, std::uint64_t name, StoreResult& result) {
  const BlockId known = known_by_now(lane, holder, name);
  if (known == block) {
    ++result.duplicates;
    if (options_.count_copies) odd_names(holder).add_copy(name);
    return;
  }
  if (known != kNoId) {
    ++result.renamed;
    if (drop_name(lane, holder, known, name)) {
      if (const auto lost = index_in_path(known)) {
        if (exact_[*lost] == kNewlyExact) --result.applied;
        exact_[*lost] = 0;
      } else {
        lost_.insert(known);
      }
    }
    tidy_odd_names(holder);
  }
  if (exact_[index] != 0) {
    odd_names(holder).add_alias(block, name);
    ++result.aliased;
  } else {
    give_first_name(lane, holder, block, run_end, name);
    exact_[index] = kNewlyExact;
    ++result.applied;
  }
}

/// The block, which the lane did not hold exactly until now, has this name and no other.
void TreeCore::give_first_name(LaneId lane, Holder& holder, BlockId block, std::uint32_t run_end,
                               std::uint64_t name) {
  RunStore& runs = tree_->runs();
  std::uint64_t& shared = runs.shared_name(runs.position(block));
  if (shared == name) return;
  if (shared == 0 || !shared_name_needed_now(lane, block)) {
    const BlockId other = find_shared(name);
    if (other == kNoId || !shared_name_needed_now(lane, other)) {
      if (other != kNoId) {
        runs.shared_name(runs.position(other)) = 0;
        shared_.replace(name, other, block);
      } else {
        shared_.insert(name, block);
      }
      if (shared != 0) shared_.erase(shared, block);
      shared = name;
      return;
    }
  }
  set_own_name(lane, holder, block, name, run_end);
}

/// `find_name`, as if the event so far were applied.
BlockId TreeCore::known_by_now(LaneId lane, const Holder& holder, std::uint64_t name) const {
  const BlockId shared = find_shared(name);
  if (shared != kNoId && held_by_now(lane, shared) &&
      agrees_on(lane, tree_->runs().position(shared))) {
    return shared;
  }
  return find_unshared(lane, holder, name);
}

bool TreeCore::held_by_now(LaneId lane, BlockId block) const {
  if (const auto index = index_in_path(block)) return exact_[*index] != 0;
  return !lost_.contains(block) && holds_exactly(lane, block);
}

bool TreeCore::shared_name_needed_now(LaneId lane, BlockId block) const {
  if (held_by_now(lane, block) && agrees_on(lane, tree_->runs().position(block))) return true;
  return shared_name_needed(block, lane);
}

std::optional<std::size_t> TreeCore::index_in_path(BlockId block) const {
  const BlockPlace place = tree_->place_of(block);
  const auto depth = [&](NodeId node, std::uint32_t at) { return tree_->node(node).start + at; };
  const std::uint32_t wanted = depth(place.node, place.at);
  // The segments follow each other without a gap, so that they are in order of depth.
  const auto after = std::ranges::partition_point(
      path_, [&](const Segment& s) { return depth(s.node, s.begin) <= wanted; });
  if (after == path_.begin()) return std::nullopt;
  const Segment& segment = *std::prev(after);
  if (segment.node != place.node || place.at >= segment.end) return std::nullopt;
  return wanted - depth(path_.front().node, path_.front().begin);
}

}  // namespace kvroute::detail
