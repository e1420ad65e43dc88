// Reading a tree from the bytes of core_snapshot.cc. Everything is checked as if it came from a
// stranger, for a checksum tells of damage, not of malice: what is loaded is a tree that operations
// could have made, takes time in proportion to the bytes and the memory that it fills, and memory
// as `check_size` says.

#include <algorithm>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "index/snapshot_format.h"
#include "index/tree_core.h"

namespace kvroute::detail {
namespace {

constexpr std::uint32_t kAnyCount = std::numeric_limits<std::uint32_t>::max() - 1;
constexpr std::uint32_t kHighestSlot = kMaxTargets - 1;

}  // namespace

// The new content is built aside, while matches and writers go on with the old one.
void TreeCore::restore(std::string_view snapshot, Nanoseconds now) {
  TreeCore fresh(options_, most_granules_);
  fresh.load(open_snapshot(kTreeSnapshot, snapshot), now);
  {
    const std::scoped_lock turn(writers_);
    if (pins_ > 0) {
      refuse_snapshot("to be loaded while nothing is pinned", std::to_string(pins_) + " pins");
    }
    const std::scoped_lock alone(tree_lock_);
    std::swap(bytes_, fresh.bytes_);
    fresh.tree_->capacity().take_capacities(tree_->capacity());
    std::swap(tree_, fresh.tree_);
    std::swap(shared_, fresh.shared_);
    std::swap(holders_, fresh.holders_);
    std::swap(waiting_, fresh.waiting_);
    std::swap(lower_slots_, fresh.lower_slots_);
    slot_count_ = std::max(slot_count_, fresh.slot_count_);
    tick_.store(fresh.tick_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    scan_at_ = 1;
    all_in_use_ = false;
  }
  forget_in_steps();
}

void TreeCore::load(SnapshotReader in, Nanoseconds now) {
  slot_count_ = in.number(kMaxTargets, "slots");
  tick_.store(1, std::memory_order_relaxed);
  std::vector<NodeId> nodes{NodeTree::kRoot};
  std::vector<RunId> runs;
  for (std::uint32_t left = in.number(kAnyCount, "runs"); left > 0; --left) {
    runs.push_back(load_run(in, nodes));
  }
  for (std::size_t i = 1; i < nodes.size(); ++i) load_node(in, nodes[i], now);
  for (const RunId run : runs) load_own_names(in, run);
  for (const RunId run : runs) check_own_names(run);
  for (std::uint32_t left = in.number(kAnyCount, "lanes"); left > 0; --left) {
    load_odd_names(in, nodes);
  }
  for (std::uint32_t left = in.number(kAnyCount, "chains"); left > 0; --left) load_chain(in);
  if (in.left() > 0) refuse_snapshot("its end", std::to_string(in.left()) + " further bytes");
  // What only pins had kept goes. Nodes that could be one by now stay two: to merge very many
  // windows of one run one by one would take quadratic time.
  for (const NodeId id : nodes) {
    if (tree_->live(id)) static_cast<void>(tree_->prune(id));
  }
  update_shared_names();
}

/// Appends its nodes to `nodes`.
RunId TreeCore::load_run(SnapshotReader& in, std::vector<NodeId>& nodes) {
  const NodeId parent = nodes[in.number(nodes.size() - 1, "a node")];
  const std::uint64_t seed = in.hash();
  std::vector<std::uint32_t> lengths(in.number(in.left(), "windows"));
  std::uint64_t total = 0;
  for (std::uint32_t& length : lengths) {
    length = in.number(kAnyCount, "blocks");
    total += length;
    if (length == 0) refuse_snapshot("nodes of at least one block", "an empty one");
  }
  const std::vector<std::uint64_t> labels = in.hashes(total);
  const std::vector<std::uint64_t> names = in.hashes(total);
  if (!has_ids_for(total)) refuse_snapshot("blocks that there are ids for", "too many");
  if (labels.empty()) refuse_snapshot("runs of at least one block", "an empty one");
  if (tree_->child(parent, labels.front()) != kNoNode) {
    refuse_snapshot("each block once", "the same one twice");
  }
  const std::size_t first = nodes.size();
  tree_->add_run(parent, labels, lengths, seed, nodes);
  const RunId run = tree_->node(nodes[first]).run;
  for (std::uint32_t at = 0; at < names.size(); ++at) {
    if (names[at] == 0) continue;
    if (find_shared(names[at]) != kNoId) refuse_snapshot("each name once", "one twice");
    tree_->runs().shared_name({run, at}) = names[at];
    shared_.insert(names[at], tree_->runs().block({run, at}));
  }
  check_size(in);
  return run;
}

void TreeCore::load_node(SnapshotReader& in, NodeId id, Nanoseconds now) {
  Node& node = tree_->node(id);
  node.last_use.set(tick_.load(std::memory_order_relaxed) -
                    in.number(std::numeric_limits<std::uint32_t>::max(), "insertions"));
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    std::uint32_t least = 0;
    for (std::uint32_t left = in.number(kMaxTargets, "holders"); left > 0; --left) {
      load_holder(in, id, static_cast<Tier>(tier), least);
    }
  }
  for (std::uint32_t left = in.number(kAnyCount, "predictions"); left > 0; --left) {
    load_prediction(in, id, now);
  }
  tree_->schedule_expiry(id);
}

/// `least`: the least place in their order that the next holder may have.
void TreeCore::load_holder(SnapshotReader& in, NodeId id, Tier tier, std::uint32_t& least) {
  Node& node = tree_->node(id);
  const LaneId lane{in.number(kHighestSlot, "a slot"), tier};
  Holder& holder = holder_of(lane);
  Coverage& coverage = node.make_coverage_in(tier, bytes_->nodes);
  if (coverage.held(lane.slot, node.length) > 0) {
    refuse_snapshot("each holder of a node once", "one twice");
  }
  std::uint32_t ranges = in.number(node.length, "ranges");
  const bool all = ranges == 0;
  const std::uint32_t place = all ? lane.slot : kMaxTargets + lane.slot;
  if (place < std::exchange(least, place + 1)) {
    refuse_snapshot("holders in order", "one out of order");  // to enter it takes longer
  }
  std::uint32_t at = 0;
  std::uint32_t added = 0;
  for (ranges = std::max(ranges, 1U); ranges > 0; --ranges) {
    const std::uint32_t begin = at + (all ? 0 : in.number(node.length - at, "a gap"));
    const std::uint32_t count = all ? node.length : in.number(node.length - begin, "blocks");
    if (count == 0) refuse_snapshot("ranges of at least one block", "an empty one");
    at = begin + count;
    added += coverage.add(lane.slot, begin, at, node.length, bytes_->coverage);
  }
  holder.held += added;
  if (tier != Tier::device) note_lower(lane.slot);
  check_size(in);
}

void TreeCore::load_prediction(SnapshotReader& in, NodeId id, Nanoseconds now) {
  Node& node = tree_->node(id);
  PredictedRange range;
  range.slot = in.number(kHighestSlot, "a slot");
  range.begin = in.number(node.length, "a block");
  range.end = range.begin + in.number(node.length - range.begin, "blocks");
  const bool expires = in.number(1, "a kind of time") == 0;
  const std::int64_t time = in.difference();
  constexpr Nanoseconds kLong = kFirstInstant / 2;  // so that sums stay in their range
  if (time < -kLong || time >= kLong || (!expires && time < 0) || range.begin == range.end) {
    refuse_snapshot("predictions with a time", "one without");
  }
  range.deadline = expires ? std::min(now + time, kFirstInstant - 1) : kFirstInstant + time;
  // Out of order they would take quadratic time to be entered.
  if (const auto& known = node.predicted().ranges(); !known.empty()) {
    const PredictedRange& last = known[known.size() - 1];
    if (std::pair(range.slot, range.begin) < std::pair(last.slot, last.end)) {
      refuse_snapshot("predictions in order", "one out of order");
    }
  }
  if (node.coverage.run_from(range.slot, range.begin, range.end) < range.end) {
    refuse_snapshot("predictions of blocks that are held", "another");
  }
  node.make_extras(bytes_->nodes)
      .predicted.add(range.slot, range.begin, range.end, range.deadline, bytes_->requests);
  holder_of({range.slot, Tier::device}).predicted += range.end - range.begin;
  check_size(in);
  if (expires) return;
  tree_->capacity().skip_to(range.deadline);
  tree_->queue_prediction(id, range.slot, range.deadline, range.end);
}

void TreeCore::load_chain(SnapshotReader& in) {
  WaitingChain chain;
  chain.slot = in.number(kHighestSlot, "a slot");
  chain.tier = static_cast<Tier>(in.number(kTiers - 1, "a tier"));
  const std::uint32_t blocks = in.number(kAnyCount, "blocks");
  chain.parent = in.hash();
  chain.namespace_seed = in.hash();
  chain.names = in.hashes(blocks);
  chain.labels = in.hashes(blocks);
  if (std::ranges::find(chain.names, 0U) != chain.names.end()) {
    refuse_snapshot("chains whose blocks have names", "one without");
  }
  for (std::uint32_t i = 0; i < blocks; ++i) {
    chain.gone.push_back(static_cast<std::uint8_t>(in.number(1, "a mark")));
  }
  static_cast<void>(waiting_->add(chain));
  check_size(in);
}

/// Few bytes may stand for much: a bit for each block of a long node, a place for each name of a
/// long row.
void TreeCore::check_size(const SnapshotReader& in) const {
  constexpr std::size_t kPerByte = 64;
  constexpr std::size_t kAnyway = std::size_t{1} << 20;
  if (bytes_->total() > kPerByte * in.size() + kAnyway) {
    refuse_snapshot("content of at most " + std::to_string(kPerByte) + " bytes of memory a byte",
                    "more");
  }
}

}  // namespace kvroute::detail
