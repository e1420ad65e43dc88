#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "hashes.h"
#include "index/snapshot_format.h"
#include "kvroute/base/ids.h"
#include "kvroute/base/tier.h"

namespace kvroute::testing {

/// The fields of a tree's snapshot (core_snapshot.cc), to be changed as no tree would write them,
/// under a right checksum.
struct ForgedSnapshot {
  struct Holder {
    std::uint32_t slot = 0;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges = {};  // gap, length; none: all
  };
  struct Prediction {
    std::uint32_t slot = 0;
    std::uint32_t begin = 0;
    std::uint32_t length = 0;
    std::uint32_t kind = 0;  // 0: time left, 1: instant
    std::int64_t time = 0;
  };
  struct Node {
    std::uint32_t length = 0;
    std::array<std::vector<Holder>, kTiers> holders = {};
    std::vector<Prediction> predictions = {};
  };
  struct Row {
    std::uint32_t lane = 0;
    std::vector<std::pair<std::uint32_t, std::uint64_t>> names = {};  // offset, name
  };
  struct Run {
    std::uint32_t parent = 0;
    Hashes labels = {};
    Hashes names = {};
    std::vector<Node> nodes = {};
    std::vector<Row> rows = {};
  };
  struct Alias {
    std::uint64_t name = 0;
    std::uint32_t node = 0;
    std::uint32_t at = 0;
  };
  struct Odd {
    std::uint32_t lane = 0;
    std::vector<Alias> aliases = {};
    std::vector<std::pair<std::uint64_t, std::uint32_t>> copies = {};
  };
  struct Chain {
    std::uint32_t slot = 0;
    std::uint32_t tier = 0;
    Hashes names = {};
    Hashes labels = {};
    std::vector<std::uint32_t> gone = {};
  };

  std::uint32_t slots = 0;
  std::vector<Run> runs = {};
  std::vector<Odd> odd = {};
  std::vector<Chain> chains = {};
  std::string further = {};

  [[nodiscard]] std::string bytes() const {
    detail::SnapshotWriter out(detail::kTreeSnapshot);
    out.number(slots);
    out.number(runs.size());
    for (const Run& run : runs) {
      out.number(run.parent);
      out.hash(0);
      out.number(run.nodes.size());
      for (const Node& node : run.nodes) out.number(node.length);
      out.hashes(run.labels);
      out.hashes(run.names);
    }
    for (const Run& run : runs) {
      for (const Node& node : run.nodes) write(node, out);
    }
    for (const Run& run : runs) {
      out.number(run.rows.size());
      for (const Row& row : run.rows) write(row, out);
    }
    out.number(odd.size());
    for (const Odd& lane : odd) write(lane, out);
    out.number(chains.size());
    for (const Chain& chain : chains) write(chain, out);
    out.text(further);
    return out.seal();
  }

 private:
  static void write(const Node& node, detail::SnapshotWriter& out) {
    out.number(0);  // insertions since its last use
    for (const auto& holders : node.holders) {
      out.number(holders.size());
      for (const Holder& holder : holders) {
        out.number(holder.slot);
        out.number(holder.ranges.size());
        for (const auto& [gap, length] : holder.ranges) {
          out.number(gap);
          out.number(length);
        }
      }
    }
    out.number(node.predictions.size());
    for (const Prediction& predicted : node.predictions) {
      out.number(predicted.slot);
      out.number(predicted.begin);
      out.number(predicted.length);
      out.number(predicted.kind);
      out.difference(predicted.time);
    }
  }
  static void write(const Row& row, detail::SnapshotWriter& out) {
    out.number(row.lane);
    out.number(row.names.size());
    for (const auto& [offset, name] : row.names) {
      out.number(offset);
      out.hash(name);
    }
  }
  static void write(const Odd& lane, detail::SnapshotWriter& out) {
    out.number(lane.lane);
    out.number(lane.aliases.size());
    for (const Alias& alias : lane.aliases) {
      out.hash(alias.name);
      out.number(alias.node);
      out.number(alias.at);
    }
    out.number(lane.copies.size());
    for (const auto& [name, extra] : lane.copies) {
      out.hash(name);
      out.number(extra);
    }
  }
  static void write(const Chain& chain, detail::SnapshotWriter& out) {
    out.number(chain.slot);
    out.number(chain.tier);
    out.number(chain.names.size());
    out.hash(7);  // the parent
    out.hash(0);
    out.hashes(chain.names);
    out.hashes(chain.labels);
    for (const std::uint32_t gone : chain.gone) out.number(gone);
  }
};

}  // namespace kvroute::testing
