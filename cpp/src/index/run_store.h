#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "index/accounting.h"
#include "index/slab.h"

namespace kvroute::detail {

using NodeId = std::uint32_t;
using RunId = std::uint32_t;
/// Names one block of one run for as long as the block is in the tree; survives splits and growth.
using BlockId = std::uint32_t;

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
  NodeId first = 0;             // the window that begins at 0
  CompactVector<Window> later;  // the others, by begin
};

/// All runs, and the block ids that lead into them. Ids are given out in granules of 16 blocks, so
/// that a run may grow and move without a new name for any block.
class RunStore {
 public:
  struct Position {
    RunId run;
    std::uint32_t offset;
  };

  RunStore(std::size_t* label_bytes, std::size_t* node_bytes)
      : bytes_(label_bytes), window_bytes_(node_bytes), runs_(node_bytes), granules_(label_bytes) {}

  [[nodiscard]] RunId create(std::span<const std::uint64_t> labels, NodeId node);
  /// May move the run's labels.
  void append(RunId run, std::span<const std::uint64_t> labels);
  /// Gives back what lies beyond `length`; the run itself with length 0. May move the labels.
  void truncate(RunId run, std::uint32_t length);

  [[nodiscard]] const std::uint64_t* labels(RunId run) const { return runs_[run].storage.get(); }
  /// The engine hash under which a block was announced first, 0 if it was not.
  [[nodiscard]] std::uint64_t& shared_name(Position at) {
    Run& run = runs_[at.run];
    return run.storage[run.capacity + at.offset];
  }
  [[nodiscard]] std::uint32_t length(RunId run) const { return runs_[run].length; }
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

  template <typename Visit>
  void for_each_window(RunId run, Visit visit) const {
    visit(Run::Window{0, runs_[run].first});
    for (const Run::Window& window : runs_[run].later) visit(window);
  }

 private:
  static constexpr std::uint32_t kGranule = 16;
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
  [[nodiscard]] static std::uint32_t* granule_ids(Run& run);
  [[nodiscard]] static const std::uint32_t* granule_ids(const Run& run);
  void reserve(Run& run, std::uint32_t capacity);
  void fill(RunId id, std::span<const std::uint64_t> labels);

  std::size_t blocks_ = 0;
  std::size_t* bytes_;
  std::size_t* window_bytes_;
  Slab<Run> runs_;
  Slab<Granule> granules_;
};

}  // namespace kvroute::detail
