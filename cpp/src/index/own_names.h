#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "index/accounting.h"
#include "index/lane.h"

namespace kvroute::detail {

/// Of one run: the first names that one lane gave to blocks whose shared name is another one, or
/// was nobody's to share. 0 where the lane has no name of its own.
struct OwnNames {
  std::uint32_t lane = 0;   // LaneId::key
  std::uint32_t begin = 0;  // block of the run that names[0] is for
  std::uint32_t length = 0;
  std::uint32_t capacity = 0;
  std::uint32_t count = 0;  // names that are not 0; never 0 itself
  std::unique_ptr<std::uint64_t[]> names;

  [[nodiscard]] std::uint64_t at(std::uint32_t offset) const noexcept {
    return offset - begin < length ? names[offset - begin] : 0;
  }
};

/// The own names of all lanes in one run, by lane.
class OwnNameRows {
 public:
  [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }
  [[nodiscard]] const CompactVector<OwnNames>& rows() const noexcept { return rows_; }
  /// Null if the lane has no name of its own in the run. Valid until the next change.
  [[nodiscard]] const OwnNames* find(LaneId lane) const noexcept;
  [[nodiscard]] std::uint64_t at(LaneId lane, std::uint32_t offset) const noexcept {
    const OwnNames* row = find(lane);
    return row != nullptr ? row->at(offset) : 0;
  }

  /// `name` is not 0, and the block has no name of the lane's own. Makes room up to block `until`,
  /// since more are expected.
  void set(LaneId lane, std::uint32_t offset, std::uint64_t name, std::uint32_t until,
           std::size_t& bytes);
  /// Does nothing if the block has none. \return the name, or 0.
  std::uint64_t clear(LaneId lane, std::uint32_t offset, std::size_t& bytes);

 private:
  [[nodiscard]] std::uint32_t position(std::uint32_t lane) const noexcept;

  CompactVector<OwnNames> rows_;
};

}  // namespace kvroute::detail
