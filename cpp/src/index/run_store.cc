#include "index/run_store.h"

#include <algorithm>
#include <cstring>

namespace kvroute::detail {

// The ids of a run's granules lie behind its labels and hashes, two to a word.
std::uint32_t* RunStore::granule_ids(Run& run) {
  return reinterpret_cast<std::uint32_t*>(run.storage.get() + std::size_t{run.capacity} * 2);
}
const std::uint32_t* RunStore::granule_ids(const Run& run) {
  return reinterpret_cast<const std::uint32_t*>(run.storage.get() + std::size_t{run.capacity} * 2);
}

void RunStore::reserve(Run& run, std::uint32_t capacity) {
  Run moved;
  moved.capacity = capacity;
  moved.storage = std::make_unique<std::uint64_t[]>(storage_words(capacity));
  if (run.length > 0) {
    std::copy_n(run.storage.get(), run.length, moved.storage.get());
    std::copy_n(run.storage.get() + run.capacity, run.length, moved.storage.get() + capacity);
    std::copy_n(granule_ids(run), granules_for(run.length), granule_ids(moved));
  }
  *bytes_ += (storage_words(capacity) - (run.storage ? storage_words(run.capacity) : 0)) *
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

RunId RunStore::create(std::span<const std::uint64_t> labels, NodeId node) {
  const RunId id = runs_.allocate();
  runs_[id].first = node;
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
  for (std::uint32_t i = granules_for(length); i < granules_for(run.length); ++i) {
    granules_.release(granule_ids(run)[i]);
  }
  blocks_ -= run.length - length;
  run.length = length;
  if (length == 0) {
    *bytes_ -= storage_words(run.capacity) * sizeof(std::uint64_t);
    *window_bytes_ -= run.later.heap_bytes();
    runs_.release(id);
  } else if (length < run.capacity / 2) {
    reserve(run, length);
  }
}

NodeId RunStore::node_at(Position at) const {
  const Run& run = runs_[at.run];
  const auto* after = std::upper_bound(
      run.later.begin(), run.later.end(), at.offset,
      [](std::uint32_t offset, const Run::Window& window) { return offset < window.begin; });
  return after == run.later.begin() ? run.first : (after - 1)->node;
}

void RunStore::split_window(RunId id, std::uint32_t begin, NodeId head) {
  Run& run = runs_[id];
  const auto* after = std::upper_bound(
      run.later.begin(), run.later.end(), begin,
      [](std::uint32_t offset, const Run::Window& window) { return offset < window.begin; });
  const auto at = static_cast<std::uint32_t>(after - run.later.begin());
  NodeId& owner = at == 0 ? run.first : run.later[at - 1].node;
  const NodeId tail = owner;
  owner = head;
  run.later.insert(at, {begin, tail}, *window_bytes_);
}

void RunStore::drop_last_window(RunId id) {
  Run& run = runs_[id];
  if (!run.later.empty()) run.later.erase(run.later.size() - 1, *window_bytes_);
}

}  // namespace kvroute::detail
