#include "index/snapshot_bytes.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kvroute/base/error.h"

namespace kvroute::detail {
namespace {

constexpr std::size_t kChecksum = sizeof(std::uint64_t);

std::uint64_t checksum_of(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace

SnapshotWriter::SnapshotWriter(const SnapshotFormat& format) : bytes_(format.magic) {
  std::uint32_t version = format.version;
  for (std::size_t i = 0; i < format.version_bytes; ++i, version >>= 8) {
    bytes_.push_back(static_cast<char>(version & 0xff));
  }
}

void SnapshotWriter::reserve(std::size_t further) {
  bytes_.reserve(bytes_.size() + further + kChecksum);
}

std::string SnapshotWriter::seal() {
  fixed(checksum_of(bytes_));
  return std::move(bytes_);
}

void refuse_snapshot(const std::string& expected, const std::string& got) {
  throw InvalidArgument("snapshot: expected " + expected + ", got " + got);
}

SnapshotReader open_snapshot(const SnapshotFormat& format, std::string_view bytes) {
  if (!bytes.starts_with(format.magic)) {
    refuse_snapshot("bytes that " + std::string(format.whose) + " gave",
                    std::to_string(bytes.size()) + " bytes that begin otherwise");
  }
  if (bytes.size() < format.header() + kChecksum) {
    refuse_snapshot("at least " + std::to_string(format.header() + kChecksum) + " bytes",
                    std::to_string(bytes.size()));
  }
  std::uint32_t version = 0;
  for (std::size_t at = format.header(); at-- > format.magic.size();) {
    version = version << 8 | static_cast<std::uint8_t>(bytes[at]);
  }
  if (version != format.version) {
    refuse_snapshot("version " + std::to_string(format.version),
                    "version " + std::to_string(version));
  }
  const std::string_view before = bytes.substr(0, bytes.size() - kChecksum);
  if (SnapshotReader(bytes.substr(before.size())).hash() != checksum_of(before)) {
    refuse_snapshot("bytes as they were written", "others: they are damaged or cut off");
  }
  return SnapshotReader(before.substr(format.header()));
}

}  // namespace kvroute::detail
