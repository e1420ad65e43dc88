#include <bit>
#include <cstring>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kvroute/base/error.h"
#include "kvroute/index/prefix_index.h"

// A snapshot, all numbers little-endian:
//   magic (8 bytes), version u32,
//   slots u32, and for each slot: kind u8 (kNobody, or what its worker's name is), then dp_rank u32
//     and the name: i64, or length u32 and UTF-8,
//   the tree's snapshot: length u64 and its bytes,
//   XXH3-64 of all before, u64.

namespace kvroute {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "KVRTINDX";
constexpr std::uint32_t kVersion = 1;
constexpr std::uint8_t kNobody = 0;
constexpr std::uint8_t kInteger = 1;
constexpr std::uint8_t kText = 2;
constexpr std::size_t kHeader = kMagic.size() + sizeof(kVersion);
constexpr std::size_t kChecksum = sizeof(std::uint64_t);

template <typename T>
void put(std::string& bytes, T value) {
  static_assert(std::is_integral_v<T>);
  char raw[sizeof(T)];
  std::memcpy(raw, &value, sizeof(T));
  bytes.append(raw, sizeof(T));
}

void put(std::string& bytes, const std::optional<TargetId>& target) {
  if (!target) {
    put(bytes, kNobody);
    return;
  }
  const auto* const number = std::get_if<std::int64_t>(&target->worker);
  put(bytes, number != nullptr ? kInteger : kText);
  put(bytes, target->dp_rank);
  if (number != nullptr) {
    put(bytes, *number);
  } else {
    const auto& text = std::get<std::string>(target->worker);
    put(bytes, static_cast<std::uint32_t>(text.size()));
    bytes += text;
  }
}

[[noreturn]] void refuse(const std::string& expected, const std::string& got) {
  throw InvalidArgument("snapshot: expected " + expected + ", got " + got);
}

/// Takes a snapshot's fields off its front.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  [[nodiscard]] std::string_view bytes(std::size_t count) {
    if (count > bytes_.size()) {
      refuse(std::to_string(count) + " further bytes", std::to_string(bytes_.size()));
    }
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }

  template <typename T>
  [[nodiscard]] T number() {
    T value;
    std::memcpy(&value, bytes(sizeof(T)).data(), sizeof(T));
    return value;
  }

  [[nodiscard]] std::optional<TargetId> target() {
    const auto kind = number<std::uint8_t>();
    if (kind == kNobody) return std::nullopt;
    if (kind != kInteger && kind != kText) refuse("a kind of name", std::to_string(kind));
    TargetId target;
    target.dp_rank = number<std::uint32_t>();
    if (kind == kInteger) {
      target.worker = number<std::int64_t>();
    } else {
      target.worker = std::string(bytes(number<std::uint32_t>()));
    }
    return target;
  }

  [[nodiscard]] bool done() const noexcept { return bytes_.empty(); }

 private:
  std::string_view bytes_;
};

/// What lies between the header and the checksum, both of which are as they should be.
std::string_view checked(std::string_view snapshot) {
  if (!snapshot.starts_with(kMagic)) {
    refuse("bytes that PrefixIndex::snapshot gave",
           std::to_string(snapshot.size()) + " bytes that begin otherwise");
  }
  if (snapshot.size() < kHeader + kChecksum) {
    refuse("at least " + std::to_string(kHeader + kChecksum) + " bytes",
           std::to_string(snapshot.size()));
  }
  const auto version = Reader(snapshot.substr(kMagic.size())).number<std::uint32_t>();
  if (version != kVersion) {
    refuse("version " + std::to_string(kVersion), "version " + std::to_string(version));
  }
  const std::string_view before = snapshot.substr(0, snapshot.size() - kChecksum);
  const auto stated = Reader(snapshot.substr(before.size())).number<std::uint64_t>();
  if (XXH3_64bits(before.data(), before.size()) != stated) {
    refuse("bytes as they were written", "others: they are damaged or cut off");
  }
  return before.substr(kHeader);
}

}  // namespace

std::string PrefixIndex::snapshot() const {
  std::string bytes(kMagic);
  put(bytes, kVersion);
  std::string tree;
  {
    const std::scoped_lock unchanging(membership_);
    const auto by_slot = names();
    put(bytes, static_cast<std::uint32_t>(by_slot.size()));
    for (const auto& target : by_slot) put(bytes, target);
    tree = tree_->snapshot(Nanoseconds{0});
  }
  bytes.reserve(bytes.size() + sizeof(std::uint64_t) + tree.size() + kChecksum);
  put(bytes, std::uint64_t{tree.size()});
  bytes += tree;
  put(bytes, std::uint64_t{XXH3_64bits(bytes.data(), bytes.size())});
  return bytes;
}

// The new content is built aside, so that bytes which are refused leave the index alone, and
// matches go on meanwhile. Blocks of slots without a target were being removed when the snapshot
// was taken.
void PrefixIndex::restore(std::string_view snapshot) {
  Reader reader(checked(snapshot));
  const auto count = reader.number<std::uint32_t>();
  if (count > kMaxTargets) {
    refuse("at most " + std::to_string(kMaxTargets) + " targets", std::to_string(count));
  }
  std::vector<Place> places(count);
  std::unordered_map<TargetId, Slot> slots;
  for (Slot slot = 0; slot < count; ++slot) {
    places[slot].target = reader.target();
    const auto& target = places[slot].target;
    if (target && !slots.emplace(*target, slot).second) {
      refuse("each target once", to_string(*target) + " twice");
    }
  }
  auto tree = std::make_shared<PrefixTree>(options_);
  tree->restore(reader.bytes(reader.number<std::uint64_t>()), Nanoseconds{0});
  if (!reader.done()) refuse("its end after the tree", "further bytes");
  std::vector<std::size_t> by_slot;
  tree->held_blocks(by_slot);
  for (Slot slot = 0; slot < by_slot.size(); ++slot) {
    if (slot >= count || !places[slot].target) tree->release_slot(slot);
  }
  const std::scoped_lock changing(membership_);
  {
    const std::unique_lock lock(mutex_);
    tree_.swap(tree);
    slots_.swap(slots);
    places_.swap(places);
  }
}

}  // namespace kvroute
