#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvroute/base/error.h"

namespace kvroute::detail {

static_assert(std::endian::native == std::endian::little);

/// Writes a snapshot's fields: numbers as varints of 7 bits a byte, the lowest first; hashes as 8
/// bytes, little-endian.
class SnapshotWriter {
 public:
  void number(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80));
    bytes_.push_back(static_cast<char>(value));
  }
  /// Small whether positive or negative.
  void difference(std::int64_t value) {
    number((static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63));
  }
  void hash(std::uint64_t value) { hashes({&value, 1}); }
  void hashes(std::span<const std::uint64_t> values) {
    const std::size_t before = bytes_.size();
    bytes_.resize(before + values.size_bytes());
    if (!values.empty()) std::memcpy(bytes_.data() + before, values.data(), values.size_bytes());
  }
  void text(std::string_view value) { bytes_ += value; }

  [[nodiscard]] std::string_view bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::string take() noexcept { return std::move(bytes_); }

 private:
  std::string bytes_;
};

[[noreturn]] inline void refuse_snapshot(const std::string& expected, const std::string& got) {
  throw InvalidArgument("snapshot: expected " + expected + ", got " + got);
}

/// Takes a snapshot's fields off its front. \throws InvalidArgument where they are not there, or
/// beyond what the caller allows
class SnapshotReader {
 public:
  explicit SnapshotReader(std::string_view bytes) : bytes_(bytes) {}

  [[nodiscard]] std::uint64_t any_number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(take(1).front());
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    refuse_snapshot("a number of 64 bits", "a longer one");
  }
  /// One that is not above `most`; `what` names it.
  [[nodiscard]] std::uint32_t number(std::uint64_t most, const char* what) {
    const std::uint64_t value = any_number();
    if (value > most || value > 0xffffffffU) {
      refuse_snapshot(std::string(what) + " of at most " + std::to_string(most),
                      std::to_string(value));
    }
    return static_cast<std::uint32_t>(value);
  }
  [[nodiscard]] std::int64_t difference() {
    const std::uint64_t value = any_number();
    return static_cast<std::int64_t>((value >> 1) ^ (~(value & 1) + 1));
  }
  [[nodiscard]] std::uint64_t hash() {
    std::uint64_t value = 0;
    std::memcpy(&value, take(sizeof(value)).data(), sizeof(value));
    return value;
  }
  [[nodiscard]] std::vector<std::uint64_t> hashes(std::size_t count) {
    if (count > bytes_.size() / sizeof(std::uint64_t)) {
      refuse_snapshot(std::to_string(count) + " hashes", "fewer");
    }
    std::vector<std::uint64_t> values(count);
    const std::string_view raw = take(count * sizeof(std::uint64_t));
    if (count > 0) std::memcpy(values.data(), raw.data(), raw.size());
    return values;
  }
  [[nodiscard]] std::string_view take(std::size_t count) {
    if (count > bytes_.size()) {
      refuse_snapshot(std::to_string(count) + " further bytes", std::to_string(bytes_.size()));
    }
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  [[nodiscard]] std::size_t left() const noexcept { return bytes_.size(); }

 private:
  std::string_view bytes_;
};

}  // namespace kvroute::detail
