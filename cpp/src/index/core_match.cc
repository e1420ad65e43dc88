#include <algorithm>
#include <array>
#include <bit>
#include <shared_mutex>

#include "index/mismatch.h"
#include "index/tree_core.h"

namespace kvroute::detail {
namespace {

constexpr std::uint32_t kMaxWords = kMaxTargets / 64;

/// One walk: the depths so far, and the slots that hold everything up to here.
class Walk {
 public:
  Walk(Overlaps& out, std::uint32_t slots)
      : held_(out.held.data()),
        active_(out.active.data()),
        slots_(slots),
        words_((slots + 63) / 64) {
    std::fill_n(alive_.begin(), words_, ~std::uint64_t{0});
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
    for (std::uint32_t i = 0; i < words_; ++i) {
      if (alive_[i] == ~std::uint64_t{0}) {
        std::fill_n(held_ + std::size_t{i} * 64, 64, depth_);
      } else {
        for_each(alive_[i], i, [&](Slot slot) { held_[slot] = depth_; });
      }
    }
  }

 private:
  template <typename Visit>
  static void for_each(std::uint64_t bits, std::uint32_t word, Visit visit) {
    for (; bits != 0; bits &= bits - 1) {
      visit(word * 64 + static_cast<Slot>(std::countr_zero(bits)));
    }
  }

  void pass_holders(const Node& node, std::uint32_t same) {
    for (const PartialHolder& holder : node.coverage.partial()) {
      if ((alive_[holder.slot / 64] >> (holder.slot % 64) & 1) != 0) {
        held_[holder.slot] = depth_ + std::min(holder.lead, same);
      }
    }
    const SlotSet& full = node.coverage.full();
    std::uint64_t any = 0;
    for (std::uint32_t i = 0; i < words_; ++i) {
      const std::uint64_t left = alive_[i] & full.word(i);
      if (depth_ > 0) {
        for_each(alive_[i] & ~left, i,
                 [&](Slot slot) { held_[slot] = std::max(held_[slot], depth_); });
      }
      alive_[i] = left;
      any |= left;
    }
    holders_ = any != 0;
  }

  // A slot whose requests reach this node has at least `depth_` active blocks; the entries of a
  // slot come with rising ends.
  void pass_pins(const Node& node, std::uint32_t same) {
    bool reaches_end = false;
    for (const PinEntry& entry : node.pins.entries()) {
      if (entry.slot >= slots_ || active_[entry.slot] < depth_) continue;
      active_[entry.slot] = depth_ + std::min(entry.end, same);
      reaches_end |= entry.end == node.length;
    }
    pinned_ = reaches_end;
  }

  std::uint32_t* held_;
  std::uint32_t* active_;
  std::uint32_t slots_;
  std::uint32_t words_;
  std::uint32_t depth_ = 0;
  bool holders_ = true;
  bool pinned_ = true;
  std::array<std::uint64_t, kMaxWords> alive_;
};

}  // namespace

void TreeCore::match(std::span<const std::uint64_t> labels, Overlaps& out) const {
  static const MismatchFunction mismatch = best_mismatch();
  const std::shared_lock together(tree_lock_);
  out.held.assign(slot_count_, 0);
  out.active.assign(slot_count_, 0);
  Walk walk(out, slot_count_);
  NodeId id = NodeTree::kRoot;
  while (!labels.empty() && walk.goes_on()) {
    const NodeId next = tree_.child(id, labels.front());
    if (next == kNoNode) break;
    id = next;
    const Node& node = tree_.node(id);
    const std::size_t wanted = std::min<std::size_t>(node.length, labels.size());
    const std::size_t same = mismatch(node.labels, labels.data(), wanted);
    walk.pass(node, static_cast<std::uint32_t>(same));
    labels = labels.subspan(same);
    if (same < node.length) break;
  }
  walk.finish();
  if (id != NodeTree::kRoot) {
    const std::uint64_t now = tick_.load(std::memory_order_relaxed);
    const Stamp& last_use = tree_.node(id).last_use;
    if (last_use.get() != now) last_use.set(now);
  }
}

}  // namespace kvroute::detail
