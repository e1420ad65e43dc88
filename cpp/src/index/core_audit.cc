#include <map>
#include <shared_mutex>
#include <sstream>
#include <utility>

#include "index/bits.h"
#include "index/tree_core.h"

namespace kvroute::detail {
namespace {

template <typename... Parts>
std::string said(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

std::optional<std::string> audit_coverage(const Node& node, const Coverage& coverage) {
  const PartialHolder* before = nullptr;
  for (const PartialHolder& holder : coverage.partial()) {
    if (before != nullptr && before->slot >= holder.slot) return "partial holders out of order";
    before = &holder;
    if (coverage.full().contains(holder.slot)) return "a slot is full and partial";
    if (holder.held == 0 || holder.held >= node.length) return "a partial holder is not partial";
    if (holder.bits == nullptr) {
      if (holder.held != holder.lead) return "a cutoff that is not what is held";
      continue;
    }
    if (holder.held <= holder.lead) return "a bitmap without a hole";
    if (count_bits(holder.bits.get(), 0, node.length) != holder.held) return "a bitmap's count";
    if (first_zero(holder.bits.get(), 0, node.length) != holder.lead) return "a bitmap's lead";
    if (count_bits(holder.bits.get(), node.length, words_for(node.length) * 64) != 0) {
      return "bits beyond the end of the node";
    }
  }
  return std::nullopt;
}

std::optional<std::string> audit_ranges(const Node& node) {
  const PredictedRange* before = nullptr;
  for (const PredictedRange& range : node.predicted().ranges()) {
    if (range.begin >= range.end || range.end > node.length) return "a predicted range's bounds";
    if (before != nullptr &&
        (before->slot > range.slot || (before->slot == range.slot && before->end > range.begin))) {
      return "predicted ranges out of order";
    }
    before = &range;
    for (std::uint32_t at = range.begin; at < range.end; ++at) {
      if (!node.coverage.holds(range.slot, at)) return "a predicted block that is not held";
    }
  }
  return std::nullopt;
}

std::optional<std::string> audit_pins(const Node& node) {
  const PinEntry* before = nullptr;
  for (const PinEntry& entry : node.pins().entries()) {
    if (entry.count == 0 || entry.end == 0 || entry.end > node.length) return "a pin's bounds";
    if (entry.below > (entry.end == node.length ? entry.count : 0)) return "pins below miscounted";
    if (before != nullptr &&
        (before->slot > entry.slot || (before->slot == entry.slot && before->end >= entry.end))) {
      return "pins out of order";
    }
    before = &entry;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> TreeCore::audit() const {
  const std::shared_lock turn(writers_);
  for (NodeId id = 1; id < tree_->id_end(); ++id) {
    if (!tree_->live(id)) continue;
    if (auto wrong = audit_node(id)) return said("node ", id, ": ", *wrong);
  }
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    for (Slot slot = 0; slot < holders_[tier].size(); ++slot) {
      if (holders_[tier][slot] == nullptr) continue;
      if (auto wrong = audit_lane({slot, static_cast<Tier>(tier)})) {
        return said("slot ", slot, ", tier ", tier, ": ", *wrong);
      }
    }
  }
  if (auto wrong = audit_shared_names()) return wrong;
  if (auto wrong = audit_capacities()) return wrong;
  if (auto wrong = audit_all_pins()) return wrong;
  return audit_totals();
}

std::optional<std::string> TreeCore::audit_node(NodeId id) const {
  const Node& node = tree_->node(id);
  if (!tree_->live(node.parent)) return "its parent is gone";
  const Node& parent = tree_->node(node.parent);
  if (node.length == 0) return "it is empty";
  if (node.start != parent.start + parent.length) return "it does not begin where its parent ends";
  if (node.labels != tree_->runs().labels(node.run) + node.begin) return "stale labels";
  if (tree_->child(node.parent, node.labels[0]) != id) return "its edge leads elsewhere";
  if (node.begin + node.length > tree_->runs().length(node.run)) return "it exceeds its run";
  for (const std::uint32_t at : {0U, node.length - 1}) {
    const BlockId block = tree_->block_at(id, at);
    if (!tree_->runs().live(block)) return "a block id of it is not live";
    const BlockPlace place = tree_->place_of(block);
    if (place.node != id || place.at != at) return "a block id leads elsewhere";
  }
  if (node.children == 0 && node.needed() != node.length) return "a leaf whose end nobody needs";
  if (node.predicted().earliest() < kFirstInstant && node.extras().expiry_ticket == 0) {
    return "predictions that never expire";
  }
  if (&node.extras() != &Node{}.extras() && node.extras().empty()) return "extras without content";
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    if (auto wrong = audit_coverage(node, node.coverage_in(static_cast<Tier>(tier)))) return wrong;
  }
  if (auto wrong = audit_ranges(node)) return wrong;
  return audit_pins(node);
}

std::optional<std::string> TreeCore::audit_all_pins() const {
  std::size_t pins = 0;
  std::map<std::pair<NodeId, Slot>, std::int64_t> missing;  // by parent: below it less of it
  for (NodeId id = 1; id < tree_->id_end(); ++id) {
    if (!tree_->live(id)) continue;
    const NodeId parent = tree_->node(id).parent;
    for (const PinEntry& entry : tree_->node(id).pins().entries()) {
      pins += entry.count - entry.below;
      if (entry.below > 0) missing[{id, entry.slot}] += entry.below;
      if (parent != NodeTree::kRoot) missing[{parent, entry.slot}] -= entry.count;
    }
  }
  if (pins != pins_) return "pins are miscounted";
  for (const auto& [place, count] : missing) {
    if (count != 0) return said("node ", place.first, ": pins below it that it does not know of");
  }
  return std::nullopt;
}

std::optional<std::string> TreeCore::audit_totals() const {
  std::size_t blocks = 0;
  std::size_t nodes = 0;
  std::size_t coverage = 0;
  std::size_t tickets = 0;
  std::vector<std::uint32_t> children(tree_->id_end());
  std::vector<NodeId> children_xor(tree_->id_end());
  for (NodeId id = 1; id < tree_->id_end(); ++id) {
    if (!tree_->live(id)) continue;
    const Node& node = tree_->node(id);
    ++nodes;
    ++children[node.parent];
    children_xor[node.parent] ^= id;
    blocks += node.length;
    for (std::size_t tier = 0; tier < kTiers; ++tier) {
      coverage += node.coverage_in(static_cast<Tier>(tier)).heap_bytes(node.length);
    }
    tickets += node.extras().expiry_ticket != 0 ? 1U : 0U;
  }
  for (NodeId id = 0; id < tree_->id_end(); ++id) {
    if (!tree_->live(id)) continue;
    if (tree_->node(id).children != children[id]) return "children are miscounted";
    if (tree_->node(id).children_xor != children_xor[id]) return "children are mixed up";
  }
  if (nodes != tree_->size() || nodes != tree_->edges().size()) return "nodes and edges disagree";
  if (!tree_->edges().audit()) return "the table of edges is out of order";
  if (blocks != tree_->runs().blocks()) return "blocks outside of nodes";
  if (coverage != bytes_->coverage) return "bytes of coverage are miscounted";
  if (tickets != tree_->expiry().valid()) return "expiry records are miscounted";
  return std::nullopt;
}

}  // namespace kvroute::detail
