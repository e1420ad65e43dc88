#include "index/node_tree.h"

#include <algorithm>

#include "index/mismatch.h"

namespace kvroute::detail {

NodeTree::NodeTree(IndexBytes& bytes)
    : bytes_(bytes),
      nodes_(&bytes.nodes),
      runs_(&bytes.labels, &bytes.nodes),
      edges_(&bytes.edges),
      expiry_(&bytes.requests) {
  static_cast<void>(nodes_.allocate());  // the root, kRoot: no labels, no holders
}

BlockPlace NodeTree::place_of(BlockId block) const {
  const RunStore::Position position = runs_.position(block);
  const NodeId id = runs_.node_at(position);
  return {id, position.offset - nodes_[id].begin};
}

void NodeTree::ensure_path(NodeId from, std::uint32_t consumed,
                           std::span<const std::uint64_t> labels, Slot slot,
                           std::vector<Segment>& path) {
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
    if (can_grow(id, slot)) {
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
  head.run = tail.run;
  head.begin = tail.begin;
  head.namespace_seed = tail.namespace_seed;
  head.last_use = tail.last_use;
  head.coverage = tail.coverage.split_head(at, tail.length, bytes_.coverage);
  head.pins = tail.pins.split_head(at, bytes_.requests);
  head.predicted = tail.predicted.split_head(at, bytes_.requests);
  tail.labels += at;
  tail.length -= at;
  tail.start += at;
  tail.begin += at;
  tail.parent = head_id;
  runs_.split_window(tail.run, tail.begin, head_id);
  edges_.assign(head.parent, head.labels[0], head_id);
  edges_.assign(head_id, tail.labels[0], id);
  if (!head.predicted.empty()) schedule_expiry(head_id);
  return head_id;
}

NodeId NodeTree::add_leaf(NodeId parent, std::span<const std::uint64_t> labels) {
  const NodeId id = nodes_.allocate();
  Node& leaf = nodes_[id];
  leaf.run = runs_.create(labels, id);
  leaf.labels = runs_.labels(leaf.run);
  leaf.length = static_cast<std::uint32_t>(labels.size());
  leaf.parent = parent;
  Node& above = nodes_[parent];
  leaf.start = above.start + above.length;
  leaf.namespace_seed = above.namespace_seed;
  ++above.children;
  edges_.assign(parent, labels.front(), id);
  return id;
}

bool NodeTree::can_grow(NodeId id, Slot slot) const {
  const Node& leaf = nodes_[id];
  return id != kRoot && leaf.children == 0 && leaf.coverage.only(slot);
}

void NodeTree::grow(NodeId id, std::span<const std::uint64_t> labels) {
  Node& leaf = nodes_[id];
  const auto length = leaf.length + static_cast<std::uint32_t>(labels.size());
  leaf.coverage.extend(leaf.length, length, bytes_.coverage);
  runs_.append(leaf.run, labels);
  leaf.length = length;
  refresh_labels(leaf.run);
}

void NodeTree::refresh_labels(RunId run) {
  const std::uint64_t* base = runs_.labels(run);
  runs_.for_each_window(
      run, [&](const Run::Window& window) { nodes_[window.node].labels = base + window.begin; });
}

void NodeTree::prune(NodeId id) {
  while (id != kRoot && nodes_[id].children == 0) {
    Node& leaf = nodes_[id];
    const std::uint32_t needed = std::max(leaf.coverage.end(leaf.length), leaf.pins.end());
    if (needed > 0) {
      if (needed < leaf.length) shorten(id, needed);
      return;
    }
    const NodeId parent = leaf.parent;
    const Node& above = nodes_[parent];
    above.last_use.set(std::max(above.last_use.get(), leaf.last_use.get()));
    free_leaf(id);
    id = parent;
  }
}

void NodeTree::shorten(NodeId id, std::uint32_t length) {
  Node& leaf = nodes_[id];
  leaf.coverage.truncate(leaf.length, length, bytes_.coverage);
  leaf.length = length;
  runs_.truncate(leaf.run, leaf.begin + length);
  refresh_labels(leaf.run);
}

void NodeTree::free_leaf(NodeId id) {
  Node& leaf = nodes_[id];
  edges_.erase(leaf.parent, leaf.labels[0]);
  --nodes_[leaf.parent].children;
  leaf.coverage.clear(leaf.length, bytes_.coverage);
  if (leaf.expiry_ticket != 0) expiry_.retire();
  if (leaf.begin > 0) {
    runs_.drop_last_window(leaf.run);
    runs_.truncate(leaf.run, leaf.begin);
    refresh_labels(leaf.run);
  } else {
    runs_.truncate(leaf.run, 0);
  }
  nodes_.release(id);
}

void NodeTree::schedule_expiry(NodeId id) {
  Node& node = nodes_[id];
  if (node.expiry_ticket != 0 || node.predicted.empty()) return;
  node.expiry_ticket = expiry_.push(node.predicted.earliest(), id);
  expiry_.sweep([this](const ExpiryQueue::Record& record) {
    return live(record.node) && nodes_[record.node].expiry_ticket == record.ticket;
  });
}

}  // namespace kvroute::detail
