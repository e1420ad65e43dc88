#include <algorithm>
#include <mutex>
#include <utility>

#include "index/tree_core.h"

namespace kvroute::detail {

/// Forgets until the limit holds again, of `newest` (a leaf that just grew, or the root) too, but
/// no more than `most_leaves`. An insertion adds little, so little is to be forgotten; tables
/// become smaller one by one as they empty.
/// \return false if `most_leaves` were not enough.
bool TreeCore::enforce_limit(NodeId newest, std::size_t most_leaves) {
  for (std::size_t leaves = 0; limit_ && bytes_.total() > *limit_; ++leaves) {
    if (leaves == most_leaves) return false;
    const std::optional<NodeId> victim = choose_victim(newest);
    if (victim) {
      forget_suffix(*victim);
    } else if (!shrink_all_tables()) {
      return true;  // what is left is pinned
    }
  }
  return true;
}

bool TreeCore::forgettable(NodeId id) const {
  if (id == NodeTree::kRoot || !tree_.live(id)) return false;
  const Node& node = tree_.node(id);
  return node.children == 0 && node.pins.end() < node.length;
}

/// The coldest of some leaves taken at random, predicted ones before those that hold exact blocks;
/// the next in order where chance finds none. Once a whole round has found none, only what is new
/// can be forgotten, until something is unpinned or removed.
std::optional<NodeId> TreeCore::choose_victim(NodeId newest) {
  constexpr int kTries = 64;
  constexpr int kCandidates = 16;
  if (all_in_use_) return forgettable(newest) ? std::optional(newest) : std::nullopt;
  std::optional<NodeId> coldest;
  std::pair<bool, std::uint64_t> coldest_rank;
  for (int tries = 0, candidates = 0; tries < kTries && candidates < kCandidates; ++tries) {
    const auto id = static_cast<NodeId>(random_.below(tree_.id_end()));
    if (!forgettable(id)) continue;
    ++candidates;
    const Node& node = tree_.node(id);
    const std::pair rank{node.predicted.empty(), node.last_use.get()};
    if (!coldest || rank < coldest_rank) {
      coldest = id;
      coldest_rank = rank;
    }
  }
  for (NodeId seen = 0; !coldest && seen < tree_.id_end(); ++seen) {
    if (++scan_at_ >= tree_.id_end()) scan_at_ = 1;
    if (forgettable(scan_at_)) coldest = scan_at_;
  }
  all_in_use_ = !coldest;
  return coldest;
}

/// Forgets the end of a leaf that no running request uses: all of it if it is short, a quarter at
/// a time otherwise, and never very much at once.
void TreeCore::forget_suffix(NodeId id) {
  constexpr std::uint32_t kFew = 64;
  constexpr std::uint32_t kMany = 4096;
  const Node& node = tree_.node(id);
  const std::uint32_t most = std::clamp(node.length / 4, kFew, kMany);
  const std::uint32_t begin =
      std::max(node.pins.end(), node.length > most ? node.length - most : 0);
  std::vector<Slot> holders;
  node.coverage.full().for_each([&](Slot slot) { holders.push_back(slot); });
  for (const PartialHolder& holder : node.coverage.partial()) holders.push_back(holder.slot);
  for (const Slot slot : holders) forget_names(slot, id, begin);
  const std::scoped_lock alone(tree_lock_);
  for (const Slot slot : holders) {
    const std::uint32_t length = node.length;
    const std::uint32_t predicted =
        tree_.node(id).predicted.take(slot, begin, length, bytes_.requests);
    let_go(slot, *slots_[slot], id, begin, length);
    slots_[slot]->predicted -= predicted;
    counters_.forgotten_predicted += predicted;
  }
  tree_.prune(id);
}

/// Matches do not read names: this needs no `tree_lock_`.
void TreeCore::forget_names(Slot slot, NodeId id, std::uint32_t begin) {
  const std::uint32_t end = tree_.node(id).length;
  SlotNames& names = slots_[slot]->names;
  exact_.clear();
  note_exact(slot, {id, begin, end});
  for (std::uint32_t at = begin; at < end; ++at) {
    if (exact_[at - begin] == 0) continue;
    names.forget(tree_.block_at(id, at), tree_.shared_name(id, at));
    ++counters_.forgotten_exact;
  }
  names.shrink_sparse(SlotNames::kTablesAtOnce);
}

/// \return whether that gave memory back.
bool TreeCore::shrink_all_tables() {
  const std::size_t before = bytes_.total();
  for (const auto& state : slots_) {
    if (state != nullptr) state->names.shrink_sparse(SlotNames::kAllTables);
  }
  return bytes_.total() < before;
}

}  // namespace kvroute::detail
