#include "events/repeat_check.h"

#include <algorithm>
#include <bit>

#include "kvroute/base/random.h"

namespace kvroute::detail {
namespace {

constexpr std::size_t kFew = 8;
constexpr std::size_t kMany = std::size_t{1} << 16;

}  // namespace

RepeatCheck::RepeatCheck() : multiplier_(Random::entropy() | 1U) {}

bool RepeatCheck::repeats(std::span<const std::uint64_t> hashes,
                          std::optional<std::uint64_t> parent) {
  if (parent && std::find(hashes.begin(), hashes.end(), *parent) != hashes.end()) return true;
  if (hashes.size() <= kFew) return repeats_in_few(hashes);
  if (hashes.size() > kMany) return repeats_in_many(hashes);
  return repeats_in_table(hashes);
}

bool RepeatCheck::repeats_in_few(std::span<const std::uint64_t> hashes) const noexcept {
  for (std::size_t i = 1; i < hashes.size(); ++i) {
    const auto before = hashes.first(i);
    if (std::find(before.begin(), before.end(), hashes[i]) != before.end()) return true;
  }
  return false;
}

bool RepeatCheck::repeats_in_many(std::span<const std::uint64_t> hashes) {
  std::vector<std::uint64_t> sorted(hashes.begin(), hashes.end());
  std::sort(sorted.begin(), sorted.end());
  return std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
}

bool RepeatCheck::repeats_in_table(std::span<const std::uint64_t> hashes) {
  const std::size_t size = std::bit_ceil(2 * hashes.size());
  if (table_.size() < size) table_.assign(size, Entry{});
  ++check_;
  const std::size_t mask = table_.size() - 1;
  const int shift = 64 - std::countr_zero(table_.size());
  for (const std::uint64_t hash : hashes) {
    std::size_t at = static_cast<std::size_t>((hash * multiplier_) >> shift);
    while (table_[at].check == check_) {
      if (table_[at].hash == hash) return true;
      at = (at + 1) & mask;
    }
    table_[at] = {hash, check_};
  }
  return false;
}

}  // namespace kvroute::detail
