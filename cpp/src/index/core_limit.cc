#include <algorithm>
#include <mutex>
#include <utility>

#include "index/tree_core.h"

namespace kvroute::detail {

/// Forgets until the limit holds again, of `newest` (a leaf that just grew, or the root) too, but
/// no more than `most_leaves`. An insertion adds little, so little is to be forgotten. What waits
/// for its parent goes before what is held. Ids that run short are as good as a limit.
/// \return false if `most_leaves` were not enough.
bool TreeCore::enforce_limit(NodeId newest, std::size_t most_leaves) {
  for (std::size_t leaves = 0;; ++leaves) {
    const bool too_large = limit_ && bytes_->total() > *limit_;
    if (!too_large && !ids_run_short()) return true;
    if (leaves == most_leaves) return false;
    if (const std::size_t waited = too_large ? waiting_->drop_oldest() : 0; waited > 0) {
      counters_.waited_in_vain += waited;
      continue;
    }
    const std::optional<NodeId> victim = choose_victim(newest);
    if (!victim) return true;  // what is left is pinned
    forget_suffix(*victim);
  }
}

/// A sixteenth is kept free, for the blocks of one call.
bool TreeCore::ids_run_short() const {
  return tree_->runs().granules() > most_granules_ - most_granules_ / 16;
}

bool TreeCore::forgettable(NodeId id) const {
  if (id == NodeTree::kRoot || !tree_->live(id)) return false;
  const Node& node = tree_->node(id);
  return node.children == 0 && node.pins().end() < node.length;
}

/// The coldest of some leaves taken at random, predicted ones before those that hold exact blocks;
/// the next in order where chance finds none. Once a whole round has found none, only what is new
/// can be forgotten, until something is unpinned or removed.
std::optional<NodeId> TreeCore::choose_victim(NodeId newest) {
  constexpr int kTries = 64;
  constexpr int kCandidates = 16;
  if (all_in_use_) return forgettable(newest) ? std::optional(newest) : std::nullopt;
  std::optional<NodeId> coldest;
  std::pair<bool, std::uint32_t> coldest_rank;
  const std::uint32_t now = tick_.load(std::memory_order_relaxed);
  for (int tries = 0, candidates = 0; tries < kTries && candidates < kCandidates; ++tries) {
    const auto id = static_cast<NodeId>(random_.below(tree_->id_end()));
    if (!forgettable(id)) continue;
    ++candidates;
    const Node& node = tree_->node(id);
    // The age is counted from now, since stamps wrap.
    const std::pair rank{node.predicted().empty(), ~(now - node.last_use.get())};
    if (!coldest || rank < coldest_rank) {
      coldest = id;
      coldest_rank = rank;
    }
  }
  for (NodeId seen = 0; !coldest && seen < tree_->id_end(); ++seen) {
    if (++scan_at_ >= tree_->id_end()) scan_at_ = 1;
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
  Node& node = tree_->node(id);
  const std::uint32_t end = node.length;
  const std::uint32_t most = std::clamp(end / 4, kFew, kMany);
  const std::uint32_t begin = std::max(node.pins().end(), end > most ? end - most : 0);
  std::vector<LaneId> lanes;
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    node.coverage_in(static_cast<Tier>(tier)).for_each_holder([&](Slot slot) {
      lanes.push_back({slot, static_cast<Tier>(tier)});
    });
  }
  for (const LaneId lane : lanes) {
    counters_.forgotten_exact += drop_exact_names(lane, *find_holder(lane), {id, begin, end});
  }
  {
    const std::scoped_lock alone(tree_lock_);
    for (const LaneId lane : lanes) {
      Holder& holder = *find_holder(lane);
      if (lane.tier == Tier::device && !node.predicted().empty()) {
        const std::uint32_t predicted =
            node.make_extras(bytes_->nodes).predicted.take(lane.slot, begin, end, bytes_->requests);
        holder.predicted -= predicted;
        counters_.forgotten_predicted += predicted;
      }
      static_cast<void>(let_go(lane, holder, id, begin, end));
    }
    node.tidy_extras(bytes_->nodes);
    touched_.assign(1, id);
    tidy_touched();
  }
  update_shared_names();
}

}  // namespace kvroute::detail
