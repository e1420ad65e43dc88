#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "index/accounting.h"
#include "index/id_table.h"
#include "index/own_names.h"
#include "index/slab.h"
#include "kvroute/index/index_stats.h"

namespace kvroute::detail {

using NodeId = std::uint32_t;
using RunId = std::uint32_t;
/// Names one block of one run for as long as the block is in the tree; survives splits and growth.
using BlockId = std::uint32_t;

inline constexpr NodeId kNoNode = kNoId;

/// A stretch of one path whose labels lie in one piece of memory. A node is a window on a run, and
/// a split only cuts a window in two: labels and block ids stay where they are.
struct Run {
  struct Window {
    std::uint32_t begin = 0;
    NodeId node = 0;
  };

  std::unique_ptr<std::uint64_t[]> storage;  // labels, engine hashes, granules; each of `capacity`
  std::uint32_t length = 0;
  std::uint32_t capacity = 0;
  NodeId first = 0;                  // the window that begins at 0
  CompactVector<Window> later;       // the others, by begin
  std::uint64_t namespace_seed = 0;  // of all its blocks
  OwnNameRows own;
};

/// A block that has gone, and the shared name that it had.
struct FreedName {
  std::uint64_t name;
  BlockId block;
};

/// A block that has another id now, and its shared name.
struct MovedName {
  std::uint64_t name;
  BlockId from;
  BlockId to;
};

/// All runs, and the block ids that lead into them. Ids are given out in granules of 16 blocks, so
/// that a run may grow and move without a new name for any block.
class RunStore {
 public:
  struct Position {
    RunId run;
    std::uint32_t offset;
  };

  static constexpr std::uint32_t kGranule = 16;  ///< blocks
  /// Most granules that may be in use: their blocks' ids are below kNoId. The caller sees to it.
  static constexpr std::size_t kMostGranules = kNoId / kGranule;

  explicit RunStore(IndexBytes& bytes)
      : bytes_(bytes), runs_(&bytes.nodes), granules_(&bytes.labels) {}

  [[nodiscard]] RunId create(std::span<const std::uint64_t> labels, NodeId node,
                             std::uint64_t namespace_seed);
  /// May move the run's labels.
  void append(RunId run, std::span<const std::uint64_t> labels);
  /// Gives back what lies beyond `length`; the run itself with length 0. May move the labels. No
  /// lane may have a name of its own there. Shared names that go are added to `freed_names`.
  void truncate(RunId run, std::uint32_t length);
  /// The blocks of `from` follow those of `to` from now on, under other ids, and its windows those
  /// of `to`; `from` is no more. No lane may have a name of its own in it. Shared names of the
  /// blocks are added to `moved_names`. The caller corrects the nodes.
  void move_to_end(RunId from, RunId to);
  /// Blocks that have moved since this was last emptied; to be heeded before `freed_names`.
  [[nodiscard]] std::vector<MovedName>& moved_names() noexcept { return moved_names_; }
  /// Blocks that have gone since this was last emptied, whose shared names the caller has to forget
  /// before a block id is given out again.
  [[nodiscard]] std::vector<FreedName>& freed_names() noexcept { return freed_names_; }

  [[nodiscard]] const std::uint64_t* labels(RunId run) const { return runs_[run].storage.get(); }
  /// The engine hashes that lanes share, one for each block of the run; 0: none.
  [[nodiscard]] std::uint64_t* shared_names(RunId run) {
    return runs_[run].storage.get() + runs_[run].capacity;
  }
  [[nodiscard]] const std::uint64_t* shared_names(RunId run) const {
    return runs_[run].storage.get() + runs_[run].capacity;
  }
  [[nodiscard]] std::uint64_t& shared_name(Position at) { return shared_names(at.run)[at.offset]; }
  [[nodiscard]] std::uint64_t shared_name(Position at) const {
    return shared_names(at.run)[at.offset];
  }
  [[nodiscard]] OwnNameRows& own_names(RunId run) { return runs_[run].own; }
  [[nodiscard]] const OwnNameRows& own_names(RunId run) const { return runs_[run].own; }
  [[nodiscard]] std::uint64_t namespace_seed(RunId run) const { return runs_[run].namespace_seed; }
  void set_namespace_seed(RunId run, std::uint64_t seed) { runs_[run].namespace_seed = seed; }
  [[nodiscard]] std::uint32_t length(RunId run) const { return runs_[run].length; }
  /// Granules of all runs together.
  [[nodiscard]] std::size_t granules() const noexcept { return granules_.size(); }
  /// Blocks of all runs together.
  [[nodiscard]] std::size_t blocks() const noexcept { return blocks_; }

  [[nodiscard]] BlockId block(Position at) const {
    return granule_ids(runs_[at.run])[at.offset / kGranule] * kGranule + at.offset % kGranule;
  }
  [[nodiscard]] Position position(BlockId block) const {
    const Granule& granule = granules_[block / kGranule];
    return {granule.run, granule.index * kGranule + block % kGranule};
  }
  [[nodiscard]] bool live(BlockId block) const {
    return granules_.live(block / kGranule) &&
           position(block).offset < runs_[position(block).run].length;
  }

  [[nodiscard]] NodeId node_at(Position at) const;
  /// The window that holds `begin` is cut there: its first part belongs to `head` from now on.
  void split_window(RunId run, std::uint32_t begin, NodeId head);
  /// The last window goes.
  void drop_last_window(RunId run);
  /// The window of `head`, which ends at `begin`, becomes a part of the one that begins there.
  void merge_windows(RunId run, std::uint32_t begin);

  [[nodiscard]] Run::Window last_window(RunId id) const {
    const Run& run = runs_[id];
    return run.later.empty() ? Run::Window{0, run.first} : run.later[run.later.size() - 1];
  }
  template <typename Visit>
  void for_each_window(RunId run, Visit visit) const {
    visit(Run::Window{0, runs_[run].first});
    for (const Run::Window& window : runs_[run].later) visit(window);
  }

 private:
  struct Granule {
    RunId run = 0;
    std::uint32_t index = 0;
  };

  [[nodiscard]] static std::uint32_t granules_for(std::uint32_t blocks) {
    return (blocks + kGranule - 1) / kGranule;
  }
  [[nodiscard]] static std::size_t storage_words(std::uint32_t capacity) {
    return std::size_t{capacity} * 2 + (granules_for(capacity) + 1) / 2;
  }
  // The ids of a run's granules lie behind its labels and hashes, two to a word.
  [[nodiscard]] static std::uint32_t* granule_ids(Run& run) {
    return reinterpret_cast<std::uint32_t*>(run.storage.get() + std::size_t{run.capacity} * 2);
  }
  [[nodiscard]] static const std::uint32_t* granule_ids(const Run& run) {
    return reinterpret_cast<const std::uint32_t*>(run.storage.get() +
                                                  std::size_t{run.capacity} * 2);
  }
  [[nodiscard]] static std::uint32_t window_index(const Run& run, std::uint32_t offset);
  void reserve(Run& run, std::uint32_t capacity);
  void release(RunId id);
  void fill(RunId id, std::span<const std::uint64_t> labels);

  std::size_t blocks_ = 0;
  IndexBytes& bytes_;
  std::vector<FreedName> freed_names_;
  std::vector<MovedName> moved_names_;
  Slab<Run> runs_;
  Slab<Granule> granules_;
};

}  // namespace kvroute::detail
