#include <algorithm>
#include <mutex>
#include <utility>

#include "index/tree_core.h"

namespace kvroute::detail {

/// Forgets until the limit holds again. Tables do not shrink with every name that goes, so each
/// round forgets a sixteenth of the limit (less if that is enough) before it makes them smaller.
void TreeCore::enforce_limit() {
  if (!options_.memory_limit) return;
  const std::size_t limit = *options_.memory_limit;
  while (bytes_.total() > limit) {
    const std::size_t before = bytes_.total();
    const std::size_t target = limit - limit / 16;
    const std::size_t names_before = bytes_.names;
    std::size_t names_gone = 0;
    bool any = false;
    while (bytes_.total() > target && names_gone < names_before / 16 + 1024) {
      const std::optional<NodeId> victim = choose_victim();
      if (!victim) break;
      any = true;
      const std::uint64_t exact = counters_.forgotten_exact;
      forget_suffix(*victim);
      names_gone += (counters_.forgotten_exact - exact) * sizeof(SlotNames::Names::value_type);
    }
    shrink_tables();
    if (!any && bytes_.total() >= before) return;  // what is left is pinned
  }
}

bool TreeCore::forgettable(NodeId id) const {
  if (id == NodeTree::kRoot || !tree_.live(id)) return false;
  const Node& node = tree_.node(id);
  return node.children == 0 && node.pins.end() < node.length;
}

/// The coldest of some leaves taken at random, predicted ones before those that hold exact blocks;
/// the first in order where chance finds none.
std::optional<NodeId> TreeCore::choose_victim() {
  constexpr int kTries = 64;
  constexpr int kCandidates = 16;
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
  for (NodeId id = 1; !coldest && id < tree_.id_end(); ++id) {
    if (forgettable(id)) coldest = id;
  }
  return coldest;
}

/// Forgets the end of a leaf that no running request uses: all of it if it is short, a quarter at
/// a time otherwise.
void TreeCore::forget_suffix(NodeId id) {
  const std::scoped_lock alone(tree_lock_);
  const Node& node = tree_.node(id);
  const std::uint32_t most = std::max<std::uint32_t>(64, node.length / 4);
  const std::uint32_t begin =
      std::max(node.pins.end(), node.length > most ? node.length - most : 0);
  std::vector<Slot> holders;
  node.coverage.full().for_each([&](Slot slot) { holders.push_back(slot); });
  for (const PartialHolder& holder : node.coverage.partial()) holders.push_back(holder.slot);
  for (const Slot slot : holders) forget_slot(slot, id, begin);
  tree_.prune(id);
}

void TreeCore::forget_slot(Slot slot, NodeId id, std::uint32_t begin) {
  Node& node = tree_.node(id);
  SlotState& state = *slots_[slot];
  std::uint32_t exact = 0;
  exact_.clear();
  note_exact(slot, {id, begin, node.length});
  for (std::uint32_t at = begin; at < node.length; ++at) {
    if (exact_[at - begin] == 0) continue;
    state.names.forget(tree_.block_at(id, at), tree_.shared_name(id, at));
    ++exact;
  }
  const std::uint32_t predicted = node.predicted.take(slot, begin, node.length, bytes_.requests);
  let_go(slot, state, id, begin, node.length);
  state.predicted -= predicted;
  counters_.forgotten_exact += exact;
  counters_.forgotten_predicted += predicted;
}

void TreeCore::shrink_tables() {
  for (const auto& state : slots_) {
    if (state != nullptr) state->names.shrink();
  }
}

}  // namespace kvroute::detail
