#include "index/run_store.h"

#include <algorithm>
#include <cstring>

namespace kvroute::detail {

void RunStore::reserve(Run& run, std::uint32_t capacity) {
  Run moved;
  moved.capacity = capacity;
  moved.storage = std::make_unique_for_overwrite<std::uint64_t[]>(storage_words(capacity));
  if (run.length > 0) {
    std::copy_n(run.storage.get(), run.length, moved.storage.get());
    std::copy_n(run.storage.get() + run.capacity, run.length, moved.storage.get() + capacity);
    std::copy_n(granule_ids(run), granules_for(run.length), granule_ids(moved));
  }
  bytes_.labels += (storage_words(capacity) - (run.storage ? storage_words(run.capacity) : 0)) *
                   sizeof(std::uint64_t);
  run.storage = std::move(moved.storage);
  run.capacity = capacity;
}

void RunStore::fill(RunId id, std::span<const std::uint64_t> labels) {
  Run& run = runs_[id];
  const auto length = run.length + static_cast<std::uint32_t>(labels.size());
  std::copy(labels.begin(), labels.end(), run.storage.get() + run.length);
  std::fill_n(run.storage.get() + run.capacity + run.length, labels.size(), 0);
  for (std::uint32_t i = granules_for(run.length); i < granules_for(length); ++i) {
    const std::uint32_t granule = granules_.allocate();
    granules_[granule] = {id, i};
    granule_ids(run)[i] = granule;
  }
  run.length = length;
  blocks_ += labels.size();
}

RunId RunStore::create(std::span<const std::uint64_t> labels, NodeId node,
                       std::uint64_t namespace_seed) {
  const RunId id = runs_.allocate();
  runs_[id].first = node;
  runs_[id].namespace_seed = namespace_seed;
  reserve(runs_[id], static_cast<std::uint32_t>(labels.size()));
  fill(id, labels);
  return id;
}

void RunStore::append(RunId id, std::span<const std::uint64_t> labels) {
  Run& run = runs_[id];
  const auto length = run.length + static_cast<std::uint32_t>(labels.size());
  if (length > run.capacity) reserve(run, std::max(length, run.capacity + run.capacity / 4 + 4));
  fill(id, labels);
}

void RunStore::truncate(RunId id, std::uint32_t length) {
  Run& run = runs_[id];
  for (std::uint32_t at = length; at < run.length; ++at) {
    const std::uint64_t name = run.storage[run.capacity + at];
    if (name != 0) freed_names_.push_back({name, block({id, at})});
  }
  for (std::uint32_t i = granules_for(length); i < granules_for(run.length); ++i) {
    granules_.release(granule_ids(run)[i]);
  }
  blocks_ -= run.length - length;
  run.length = length;
  if (length == 0) {
    release(id);
  } else if (length < run.capacity / 2) {
    reserve(run, length);
  }
}

void RunStore::release(RunId id) {
  Run& run = runs_[id];
  bytes_.labels -= storage_words(run.capacity) * sizeof(std::uint64_t);
  run.later.erase(0, run.later.size(), bytes_.nodes);
  runs_.release(id);
}

void RunStore::move_to_end(RunId from_id, RunId to_id) {
  Run& from = runs_[from_id];
  Run& to = runs_[to_id];
  const std::uint32_t shift = to.length;
  append(to_id, {from.storage.get(), from.length});
  for (std::uint32_t at = 0; at < from.length; ++at) {
    const std::uint64_t name = shared_names(from_id)[at];
    shared_names(to_id)[shift + at] = name;
    if (name == 0) continue;
    moved_names_.push_back({name, block({from_id, at}), block({to_id, shift + at})});
  }
  to.later.push_back({shift, from.first}, bytes_.nodes);
  for (const Run::Window& window : from.later) {
    to.later.push_back({shift + window.begin, window.node}, bytes_.nodes);
  }
  for (std::uint32_t i = 0; i < granules_for(from.length); ++i) {
    granules_.release(granule_ids(from)[i]);
  }
  blocks_ -= from.length;
  release(from_id);
}

/// Windows that begin at or before the block, without the first one.
std::uint32_t RunStore::window_index(const Run& run, std::uint32_t offset) {
  const auto* after = std::upper_bound(
      run.later.begin(), run.later.end(), offset,
      [](std::uint32_t at, const Run::Window& window) { return at < window.begin; });
  return static_cast<std::uint32_t>(after - run.later.begin());
}

NodeId RunStore::node_at(Position at) const {
  const Run& run = runs_[at.run];
  const std::uint32_t index = window_index(run, at.offset);
  return index == 0 ? run.first : run.later[index - 1].node;
}

void RunStore::split_window(RunId id, std::uint32_t begin, NodeId head) {
  Run& run = runs_[id];
  const std::uint32_t at = window_index(run, begin);
  NodeId& owner = at == 0 ? run.first : run.later[at - 1].node;
  const NodeId tail = owner;
  owner = head;
  run.later.insert(at, {begin, tail}, bytes_.nodes);
}

void RunStore::drop_last_window(RunId id) {
  Run& run = runs_[id];
  if (!run.later.empty()) run.later.erase(run.later.size() - 1, bytes_.nodes);
}

void RunStore::merge_windows(RunId id, std::uint32_t begin) {
  Run& run = runs_[id];
  const std::uint32_t at = window_index(run, begin);  // at least 1: the one that begins there
  NodeId& head = at == 1 ? run.first : run.later[at - 2].node;
  head = run.later[at - 1].node;
  run.later.erase(at - 1, bytes_.nodes);
}

}  // namespace kvroute::detail
