#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvroute::detail {

static_assert(std::endian::native == std::endian::little);

/// One kind of snapshot: magic (8 bytes), version, fields, XXH3-64 of all before (u64), all numbers
/// little-endian.
struct SnapshotFormat {
  std::string_view magic;
  /// Goes up with every change of the format. Older versions are refused: engines tell again.
  std::uint32_t version;
  std::size_t version_bytes;
  std::string_view whose;  ///< the function that gives such bytes

  /// Bytes of magic and version.
  [[nodiscard]] constexpr std::size_t header() const noexcept {
    return magic.size() + version_bytes;
  }
};

/// Writes a snapshot. Its fields: numbers as varints of 7 bits a byte, the lowest first; hashes as
/// 8 bytes and integers of fixed width, little-endian.
class SnapshotWriter {
 public:
  /// Writes magic and version.
  explicit SnapshotWriter(const SnapshotFormat& format);

  void number(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80));
    bytes_.push_back(static_cast<char>(value));
  }
  /// Small whether positive or negative.
  void difference(std::int64_t value) {
    number((static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63));
  }
  template <std::integral T>
  void fixed(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes_.append(raw, sizeof(T));
  }
  void hash(std::uint64_t value) { fixed(value); }
  void hashes(std::span<const std::uint64_t> values) {
    const std::size_t before = bytes_.size();
    bytes_.resize(before + values.size_bytes());
    if (!values.empty()) std::memcpy(bytes_.data() + before, values.data(), values.size_bytes());
  }
  void text(std::string_view value) { bytes_ += value; }
  /// Room for so many bytes more, and for what `seal` adds.
  void reserve(std::size_t further);

  /// The whole snapshot, its checksum at the end. The writer is empty then.
  [[nodiscard]] std::string seal();

 private:
  std::string bytes_;
};

/// \throws InvalidArgument always, with these words.
[[noreturn]] void refuse_snapshot(const std::string& expected, const std::string& got);

/// Takes a snapshot's fields off its front. \throws InvalidArgument where they are not there, or
/// beyond what the caller allows
class SnapshotReader {
 public:
  explicit SnapshotReader(std::string_view bytes) : bytes_(bytes), size_(bytes.size()) {}

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
  template <std::integral T>
  [[nodiscard]] T fixed() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  [[nodiscard]] std::uint64_t hash() { return fixed<std::uint64_t>(); }
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
  /// Bytes in all, those included that have been taken.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  std::string_view bytes_;
  std::size_t size_;
};

/// The fields of a snapshot whose magic, version and checksum are as they should be.
/// \throws InvalidArgument if one is not
[[nodiscard]] SnapshotReader open_snapshot(const SnapshotFormat& format, std::string_view bytes);

}  // namespace kvroute::detail
