#include <algorithm>
#include <array>
#include <bit>
#include <shared_mutex>

#include "index/mismatch.h"
#include "index/tree_core.h"

namespace kvroute::detail {
namespace {

constexpr std::uint32_t kMaxWords = kMaxTargets / 64;

/// One walk: the depths so far, and the slots that hold everything up to here. The depth of these
/// is written when the walk leaves them behind.
class Walk {
 public:
  Walk(Overlaps& out, std::uint32_t slots, bool pinned)
      : held_(out.held.data()),
        active_(out.active.data()),
        slots_(slots),
        end_((slots + 63) / 64),
        pinned_(pinned) {
    std::fill_n(alive_.begin(), end_, ~std::uint64_t{0});
  }

  [[nodiscard]] bool goes_on() const noexcept { return holders_ || pinned_; }

  /// The request agrees with the first `same` blocks of `node`.
  void pass(const Node& node, std::uint32_t same) {
    if (holders_) pass_holders(node, same);
    if (pinned_) pass_pins(node, same);
    depth_ += same;
  }

  /// Gives those that hold everything their depth.
  void finish() {
    if (!holders_ || depth_ == 0) return;
    for (std::uint32_t i = begin_; i < end_; ++i) leave(i, alive_[i]);
  }

 private:
  /// These slots of a word have no more than `depth_`. Where all 64 went on until now, those that
  /// still do are written too: it is quicker, and they get more later.
  void leave(std::uint32_t word, std::uint64_t slots) {
    std::uint32_t* const held = held_ + std::size_t{word} * 64;
    if (slots != 0 && alive_[word] == ~std::uint64_t{0}) {
      std::fill_n(held, 64, depth_);
      return;
    }
    for (; slots != 0; slots &= slots - 1) held[std::countr_zero(slots)] = depth_;
  }

  void pass_holders(const Node& node, std::uint32_t same) {
    const SlotSet& full = node.coverage.full();
    std::uint32_t begin = end_;
    std::uint32_t end = begin_;
    for (std::uint32_t i = begin_; i < end_; ++i) {
      const std::uint64_t left = alive_[i] & full.word(i);
      if (depth_ > 0) leave(i, alive_[i] & ~left);
      alive_[i] = left;
      if (left != 0) {
        begin = std::min(begin, i);
        end = i + 1;
      }
    }
    begin_ = begin;
    end_ = end;
    holders_ = begin < end;
    // Who was left behind before has less than `depth_`.
    for (const PartialHolder& holder : node.coverage.partial()) {
      std::uint32_t& held = held_[holder.slot];
      if (held == depth_) held = depth_ + std::min(holder.lead, same);
    }
  }

  // A slot whose requests reach this node has at least `depth_` active blocks; the entries of a
  // slot come with rising ends.
  void pass_pins(const Node& node, std::uint32_t same) {
    bool reaches_end = false;
    for (const PinEntry& entry : node.pins().entries()) {
      if (entry.slot >= slots_ || active_[entry.slot] < depth_) continue;
      active_[entry.slot] = depth_ + std::min(entry.end, same);
      reaches_end |= entry.end == node.length;
    }
    pinned_ = reaches_end;
  }

  std::uint32_t* held_;
  std::uint32_t* active_;
  std::uint32_t slots_;
  std::uint32_t begin_ = 0;  // words of `alive_` that are not 0 lie in [begin_, end_)
  std::uint32_t end_;
  std::uint32_t depth_ = 0;
  bool holders_ = true;
  bool pinned_;
  std::array<std::uint64_t, kMaxWords> alive_;
};

/// Blocks that the slot holds without a gap from the start of the node, each in any tier up to
/// `tier`.
std::uint32_t lead_within(const Node& node, Slot slot, Tier tier) {
  std::uint32_t at = 0;
  for (std::uint32_t before = ~at; at != before && at < node.length;) {
    before = at;
    for (std::size_t i = 0; i <= index_of(tier); ++i) {
      at = node.coverage_in(static_cast<Tier>(i)).run_from(slot, at, node.length);
    }
  }
  return at;
}

}  // namespace

/// Finds the child that goes on with the request; kNoNode: none does. `same` is how many blocks of
/// it agree.
NodeId TreeCore::next_on_way(NodeId from, std::span<const std::uint64_t> labels,
                             std::uint32_t& same) const {
  static const MismatchFunction mismatch = best_mismatch();
  const NodeId id = tree_->child(from, labels.front());
  if (id == kNoNode) return kNoNode;
  const Node& node = tree_->node(id);
  const std::size_t wanted = std::min<std::size_t>(node.length, labels.size());
  same = static_cast<std::uint32_t>(mismatch(node.labels, labels.data(), wanted));
  return id;
}

void TreeCore::match(std::span<const std::uint64_t> labels, Overlaps& out, Tier deepest) const {
  const std::shared_lock together(tree_lock_);
  out.held.assign(slot_count_, 0);
  out.active.assign(pins_ > 0 ? slot_count_ : 0, 0);
  Walk walk(out, slot_count_, pins_ > 0);
  NodeId id = NodeTree::kRoot;
  for (auto rest = labels; !rest.empty() && walk.goes_on();) {
    std::uint32_t same = 0;
    const NodeId next = next_on_way(id, rest, same);
    if (next == kNoNode) break;
    id = next;
    walk.pass(tree_->node(id), same);
    rest = rest.subspan(same);
    if (same < tree_->node(id).length) break;
  }
  walk.finish();
  match_lower(labels, out, deepest);
  if (id != NodeTree::kRoot) {
    const std::uint32_t now = tick_.load(std::memory_order_relaxed);
    const Stamp& last_use = tree_->node(id).last_use;
    if (last_use.get() != now) last_use.set(now);
  }
}

/// The depths with further tiers, for the slots that hold anything there: a walk of its own for
/// each, since few do.
void TreeCore::match_lower(std::span<const std::uint64_t> labels, Overlaps& out,
                           Tier deepest) const {
  for (auto& depths : out.lower) depths.clear();
  if (lower_slots_.empty()) return;
  const std::size_t further = index_of(deepest);
  for (std::size_t tier = 1; tier <= further; ++tier) out.lower[tier - 1] = out.held;
  for (const Slot slot : lower_slots_) {
    for (std::size_t tier = 1; tier <= further; ++tier) {
      out.lower[tier - 1][slot] = depth_within(labels, slot, static_cast<Tier>(tier));
    }
  }
}

std::uint32_t TreeCore::depth_within(std::span<const std::uint64_t> labels, Slot slot,
                                     Tier tier) const {
  std::uint32_t depth = 0;
  NodeId id = NodeTree::kRoot;
  while (!labels.empty()) {
    std::uint32_t same = 0;
    id = next_on_way(id, labels, same);
    if (id == kNoNode) break;
    const std::uint32_t lead = std::min(lead_within(tree_->node(id), slot, tier), same);
    depth += lead;
    if (lead < tree_->node(id).length) break;
    labels = labels.subspan(same);
  }
  return depth;
}

}  // namespace kvroute::detail
