#include "index/own_names.h"

#include <algorithm>
#include <utility>

namespace kvroute::detail {
namespace {

constexpr std::size_t bytes_of(std::uint32_t capacity) { return capacity * sizeof(std::uint64_t); }

/// Makes the row cover [begin, end), which holds what it covered before.
void widen(OwnNames& row, std::uint32_t begin, std::uint32_t end, std::uint32_t capacity,
           std::size_t& bytes) {
  auto names = std::make_unique<std::uint64_t[]>(capacity);
  std::copy_n(row.names.get(), row.length, names.get() + (row.begin - begin));
  bytes += bytes_of(capacity) - bytes_of(row.capacity);
  row.names = std::move(names);
  row.begin = begin;
  row.length = end - begin;
  row.capacity = capacity;
}

}  // namespace

std::uint32_t OwnNameRows::position(std::uint32_t lane) const noexcept {
  const auto* at = std::lower_bound(rows_.begin(), rows_.end(), lane,
                                    [](const OwnNames& r, std::uint32_t l) { return r.lane < l; });
  return static_cast<std::uint32_t>(at - rows_.begin());
}

const OwnNames* OwnNameRows::find(LaneId lane) const noexcept {
  const std::uint32_t at = position(lane.key());
  return at < rows_.size() && rows_[at].lane == lane.key() ? &rows_[at] : nullptr;
}

void OwnNameRows::set(LaneId lane, std::uint32_t offset, std::uint64_t name, std::uint32_t until,
                      std::size_t& bytes) {
  const std::uint32_t at = position(lane.key());
  if (at == rows_.size() || rows_[at].lane != lane.key()) {
    OwnNames fresh;
    fresh.lane = lane.key();
    fresh.begin = offset;
    rows_.insert(at, std::move(fresh), bytes);
  }
  OwnNames& row = rows_[at];
  const std::uint32_t begin = std::min(row.begin, offset);
  const std::uint32_t end = std::max(row.begin + row.length, offset + 1);
  const std::uint32_t wanted = std::max(end, until) - begin;
  if (begin < row.begin || end - begin > row.capacity) {
    // A row that grows block by block gets some room to spare.
    const std::uint32_t spare = row.capacity == 0 ? 0 : row.capacity / 4 + 1;
    widen(row, begin, end, std::max(wanted, end - begin + spare), bytes);
  } else {
    row.length = end - begin;
  }
  row.names[offset - row.begin] = name;
  ++row.count;
}

std::uint64_t OwnNameRows::clear(LaneId lane, std::uint32_t offset, std::size_t& bytes) {
  const std::uint32_t at = position(lane.key());
  if (at == rows_.size() || rows_[at].lane != lane.key()) return 0;
  OwnNames& row = rows_[at];
  const std::uint64_t name = row.at(offset);
  if (name == 0) return 0;
  row.names[offset - row.begin] = 0;
  if (--row.count == 0) {
    bytes -= bytes_of(row.capacity);
    rows_.erase(at, bytes);
    return name;
  }
  while (row.names[row.length - 1] == 0) --row.length;
  if (row.length < row.capacity / 2) {
    widen(row, row.begin, row.begin + row.length, row.length, bytes);
  }
  return name;
}

}  // namespace kvroute::detail
