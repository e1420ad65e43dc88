#include "index/node_tree.h"

#include <algorithm>

#include "index/mismatch.h"

namespace kvroute::detail {

NodeTree::NodeTree(IndexBytes& bytes)
    : bytes_(bytes),
      nodes_(&bytes.nodes),
      runs_(bytes),
      edges_(&bytes.edges),
      expiry_(&bytes.requests),
      capacity_(&bytes.requests) {
  static_cast<void>(nodes_.allocate());  // the root, kRoot: no labels, no holders
}

BlockPlace NodeTree::place_of(BlockId block) const {
  const RunStore::Position position = runs_.position(block);
  const NodeId id = runs_.node_at(position);
  return {id, position.offset - nodes_[id].begin};
}

void NodeTree::ensure_path(NodeId from, std::uint32_t consumed,
                           std::span<const std::uint64_t> labels, std::vector<Segment>& path) {
  static const MismatchFunction mismatch = best_mismatch();
  NodeId id = from;
  std::uint32_t at = consumed;
  while (!labels.empty()) {
    const std::uint32_t length = nodes_[id].length;
    if (at < length) {
      const auto wanted =
          static_cast<std::uint32_t>(std::min<std::size_t>(length - at, labels.size()));
      const auto same =
          static_cast<std::uint32_t>(mismatch(nodes_[id].labels + at, labels.data(), wanted));
      if (same > 0) path.push_back({id, at, at + same});
      labels = labels.subspan(same);
      at += same;
      if (labels.empty()) return;
      if (at < length) {
        id = split(id, at);
        if (same > 0) path.back().node = id;
      }
    }
    const NodeId next = child(id, labels.front());
    if (next != kNoNode) {
      id = next;
      at = 0;
      continue;
    }
    const auto count = static_cast<std::uint32_t>(labels.size());
    if (can_grow(id)) {
      const std::uint32_t old_length = nodes_[id].length;
      grow(id, labels);
      if (!path.empty() && path.back().node == id) {
        path.back().end += count;
      } else {
        path.push_back({id, old_length, old_length + count});
      }
    } else {
      path.push_back({add_leaf(id, labels), 0, count});
    }
    return;
  }
}

/// The first `at` blocks become a node of their own; the rest keeps the id, so that its children's
/// edges stay as they are. \return the new node.
NodeId NodeTree::split(NodeId id, std::uint32_t at) {
  const NodeId head_id = nodes_.allocate();
  Node& head = nodes_[head_id];
  Node& tail = nodes_[id];
  head.labels = tail.labels;
  head.length = at;
  head.start = tail.start;
  head.parent = tail.parent;
  head.children = 1;
  head.children_xor = id;
  nodes_[head.parent].children_xor ^= id ^ head_id;
  head.run = tail.run;
  head.begin = tail.begin;
  head.last_use = tail.last_use;
  head.coverage = tail.coverage.split_head(at, tail.length, bytes_.coverage);
  if (!tail.extras().empty()) {
    NodeExtras& above = head.make_extras(bytes_.nodes);
    NodeExtras& below = tail.make_extras(bytes_.nodes);
    above.pins = below.pins.split_head(at, bytes_.requests);
    above.predicted = below.predicted.split_head(at, bytes_.requests);
    for (std::size_t i = 0; i < below.lower.size(); ++i) {
      above.lower[i] = below.lower[i].split_head(at, tail.length, bytes_.coverage);
    }
  }
  edges_.replace(edge_key(head.parent, head.labels[0]), id, head_id);
  tail.labels += at;
  tail.length -= at;
  tail.start += at;
  tail.begin += at;
  tail.parent = head_id;
  runs_.split_window(tail.run, tail.begin, head_id);
  edges_.insert(edge_key(head_id, tail.labels[0]), id);
  if (!head.predicted().empty()) {
    schedule_expiry(head_id);
    queue_predictions(head_id, at);
  }
  head.tidy_extras(bytes_.nodes);
  tail.tidy_extras(bytes_.nodes);
  return head_id;
}

NodeId NodeTree::add_leaf(NodeId parent, std::span<const std::uint64_t> labels) {
  const NodeId id = nodes_.allocate();
  Node& leaf = nodes_[id];
  Node& above = nodes_[parent];
  leaf.run = runs_.create(labels, id, parent == kRoot ? 0 : runs_.namespace_seed(above.run));
  leaf.labels = runs_.labels(leaf.run);
  leaf.length = static_cast<std::uint32_t>(labels.size());
  leaf.parent = parent;
  leaf.start = above.start + above.length;
  ++above.children;
  above.children_xor ^= id;
  edges_.insert(edge_key(parent, labels.front()), id);
  return id;
}

void NodeTree::add_run(NodeId parent, std::span<const std::uint64_t> labels,
                       std::span<const std::uint32_t> lengths, std::uint64_t namespace_seed,
                       std::vector<NodeId>& nodes) {
  const NodeId last = add_leaf(parent, labels);
  runs_.set_namespace_seed(nodes_[last].run, namespace_seed);
  for (const std::uint32_t length : lengths.first(lengths.size() - 1)) {
    nodes.push_back(split(last, length));
  }
  nodes.push_back(last);
}

/// With few holders each keeps a cutoff where it stands; with many that would cost more than a
/// node.
bool NodeTree::can_grow(NodeId id) const {
  constexpr std::uint32_t kFew = 4;
  const Node& leaf = nodes_[id];
  return id != kRoot && leaf.children == 0 && leaf.coverage.holders_at_most(kFew) &&
         !leaf.has_lower();
}

void NodeTree::grow(NodeId id, std::span<const std::uint64_t> labels) {
  Node& leaf = nodes_[id];
  const auto length = leaf.length + static_cast<std::uint32_t>(labels.size());
  leaf.coverage.extend(leaf.length, length, bytes_.coverage);
  runs_.append(leaf.run, labels);
  leaf.length = length;
  refresh_labels(leaf.run);
}

/// To be called with the last window's node up to date but for its labels. Mostly they have not
/// moved, and a run may have very many windows.
void NodeTree::refresh_labels(RunId run) {
  const std::uint64_t* base = runs_.labels(run);
  const Run::Window last = runs_.last_window(run);
  if (nodes_[last.node].labels == base + last.begin) return;
  runs_.for_each_window(
      run, [&](const Run::Window& window) { nodes_[window.node].labels = base + window.begin; });
}

NodeId NodeTree::prune(NodeId id) {
  while (id != kRoot && nodes_[id].children == 0) {
    const Node& leaf = nodes_[id];
    const std::uint32_t needed = leaf.needed();
    if (needed > 0) {
      if (needed < leaf.length) shorten(id, needed);
      return id;
    }
    const NodeId parent = leaf.parent;
    nodes_[parent].last_use.raise(leaf.last_use);
    free_leaf(id);
    id = parent;
  }
  return id;
}

void NodeTree::shorten(NodeId id, std::uint32_t length) {
  Node& leaf = nodes_[id];
  leaf.coverage.truncate(leaf.length, length, bytes_.coverage);
  if (leaf.has_lower()) {
    for (Coverage& lower : leaf.make_extras(bytes_.nodes).lower) {
      lower.truncate(leaf.length, length, bytes_.coverage);
    }
  }
  leaf.length = length;
  runs_.truncate(leaf.run, leaf.begin + length);
  refresh_labels(leaf.run);
}

void NodeTree::free_leaf(NodeId id) {
  Node& leaf = nodes_[id];
  edges_.erase(edge_key(leaf.parent, leaf.labels[0]), id);
  --nodes_[leaf.parent].children;
  nodes_[leaf.parent].children_xor ^= id;
  leaf.coverage.clear(leaf.length, bytes_.coverage);
  if (leaf.extras().expiry_ticket != 0) {
    leaf.make_extras(bytes_.nodes).expiry_ticket = 0;
    expiry_.retire();
  }
  leaf.tidy_extras(bytes_.nodes);
  if (leaf.begin > 0) {
    runs_.drop_last_window(leaf.run);
    runs_.truncate(leaf.run, leaf.begin);
    refresh_labels(leaf.run);
  } else {
    runs_.truncate(leaf.run, 0);
  }
  nodes_.release(id);
}

void NodeTree::merge(NodeId id) {
  if (id == kRoot || !live(id)) return;
  NodeId left = id;
  if (const NodeId tail = only_follower(id); tail != kNoNode) {
    merge_into(id, tail);
    left = tail;
  }
  const NodeId above = nodes_[left].parent;
  if (above != kRoot && only_follower(above) == left) merge_into(above, left);
}

/// The only child of the node, if nearly the same slots hold it.
NodeId NodeTree::only_follower(NodeId id) const {
  constexpr std::uint32_t kFew = 4;
  constexpr std::uint32_t kMany = 64;  // lists that long are not copied once more for each merge
  const Node& head = nodes_[id];
  if (head.children != 1) return kNoNode;
  const Node& tail = nodes_[head.children_xor];
  if (head.predicted().ranges().size() + tail.predicted().ranges().size() > kMany) return kNoNode;
  if (head.pins().entries().size() + tail.pins().entries().size() > kMany) return kNoNode;
  if (tail.run != head.run && !may_move(head, tail)) return kNoNode;
  if (Coverage::partial_if_joined(head.coverage, tail.coverage) > kFew) return kNoNode;
  for (std::size_t i = 0; i + 1 < kTiers; ++i) {
    if (Coverage::partial_if_joined(head.extras().lower[i], tail.extras().lower[i]) > kFew) {
      return kNoNode;
    }
  }
  return head.children_xor;
}

/// Whether the run that begins with `tail` may become the end of that which ends with `head`. A
/// long one stays: moving it takes long, and one node more is little beside it.
bool NodeTree::may_move(const Node& head, const Node& tail) const {
  constexpr std::uint32_t kShort = 256;
  return runs_.length(tail.run) <= kShort && fixed_blocks_ == 0 && tail.pins().empty() &&
         runs_.own_names(tail.run).empty() &&
         runs_.namespace_seed(head.run) == runs_.namespace_seed(tail.run);
}

void NodeTree::move_run(RunId from, RunId to) {
  const std::uint32_t shift = runs_.length(to);
  runs_.for_each_window(from, [&](const Run::Window& window) {
    nodes_[window.node].run = to;
    nodes_[window.node].begin += shift;
  });
  runs_.move_to_end(from, to);
  refresh_labels(to);
}

void NodeTree::merge_into(NodeId head_id, NodeId tail_id) {
  Node& head = nodes_[head_id];
  Node& tail = nodes_[tail_id];
  if (tail.run != head.run) move_run(tail.run, head.run);
  edges_.erase(edge_key(head_id, tail.labels[0]), tail_id);
  edges_.replace(edge_key(head.parent, head.labels[0]), head_id, tail_id);
  tail.coverage.put_before(head.coverage, head.length, tail.length, bytes_.coverage);
  if (!head.extras().empty() || !tail.extras().empty()) {
    NodeExtras& above = head.make_extras(bytes_.nodes);
    NodeExtras& below = tail.make_extras(bytes_.nodes);
    for (NodeExtras* extras : {&above, &below}) {
      if (extras->expiry_ticket != 0) expiry_.retire();
      extras->expiry_ticket = 0;
    }
    below.pins.put_before(above.pins, head.length, bytes_.requests);
    below.predicted.put_before(above.predicted, head.length, bytes_.requests);
    for (std::size_t i = 0; i < below.lower.size(); ++i) {
      below.lower[i].put_before(above.lower[i], head.length, tail.length, bytes_.coverage);
    }
  }
  const std::uint32_t head_length = head.length;
  tail.labels = head.labels;
  tail.length += head_length;
  tail.start = head.start;
  tail.parent = head.parent;
  nodes_[tail.parent].children_xor ^= head_id ^ tail_id;
  tail.begin = head.begin;
  tail.last_use.raise(head.last_use);
  runs_.merge_windows(tail.run, tail.begin + head.length);
  head.tidy_extras(bytes_.nodes);
  nodes_.release(head_id);
  schedule_expiry(tail_id);
  queue_predictions(tail_id, head_length);
  nodes_[tail_id].tidy_extras(bytes_.nodes);
}

void NodeTree::schedule_expiry(NodeId id) {
  Node& node = nodes_[id];
  const Nanoseconds earliest = node.predicted().earliest();
  if (node.extras().expiry_ticket != 0 || earliest >= kFirstInstant) return;
  node.make_extras(bytes_.nodes).expiry_ticket = expiry_.push(earliest, id);
  expiry_.sweep([this](const ExpiryQueue::Record& record) {
    return live(record.node) && nodes_[record.node].extras().expiry_ticket == record.ticket;
  });
}

void NodeTree::queue_prediction(NodeId id, Slot slot, Nanoseconds instant, std::uint32_t end) {
  capacity_.push(slot, {instant, nodes_[id].start + end, id});
  NodeId known = kNoNode;
  std::vector<Nanoseconds> instants;  // of the slot's predictions there
  capacity_.sweep(slot, [&](const CapacityQueue::Record& record) {
    if (record.node != known) {
      known = record.node;
      instants.clear();
      if (live(known)) nodes_[known].predicted().list_deadlines(slot, instants);
      std::sort(instants.begin(), instants.end());
    }
    return std::binary_search(instants.begin(), instants.end(), record.instant);
  });
}

void NodeTree::queue_predictions(NodeId id, std::uint32_t length) {
  for (const PredictedRange& range : nodes_[id].predicted().ranges()) {
    if (range.expires() || range.begin >= length) continue;
    queue_prediction(id, range.slot, range.deadline, range.end);
  }
}

void NodeTree::requeue_predictions(NodeId id, Slot slot) {
  for (const PredictedRange& range : nodes_[id].predicted().ranges()) {
    if (range.slot != slot || range.expires()) continue;
    if (!capacity_.may_have_passed_over(slot, range.deadline)) continue;
    queue_prediction(id, slot, range.deadline, range.end);
  }
}

}  // namespace kvroute::detail
