#include "index/coverage.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "index/bits.h"

namespace kvroute::detail {
namespace {

constexpr std::size_t bitmap_bytes(std::uint32_t length) {
  return words_for(length) * sizeof(std::uint64_t);
}

void drop_bits(PartialHolder& holder, std::uint32_t length, std::size_t& bytes) {
  if (holder.bits == nullptr) return;
  holder.bits.reset();
  bytes -= bitmap_bytes(length);
}

void make_bits(PartialHolder& holder, std::uint32_t length, std::size_t& bytes) {
  if (holder.bits != nullptr) return;
  holder.bits = std::make_unique<std::uint64_t[]>(words_for(length));
  bytes += bitmap_bytes(length);
  set_bits(holder.bits.get(), 0, holder.lead);
}

/// The bits [begin, end) of `from`, moved to 0.
std::unique_ptr<std::uint64_t[]> slice(const std::uint64_t* from, std::uint32_t begin,
                                       std::uint32_t end) {
  auto to = std::make_unique<std::uint64_t[]>(words_for(end - begin));
  for (std::uint32_t i = begin; i < end; ++i) {
    const std::uint64_t bit = from[i / 64] >> (i % 64) & 1;
    to[(i - begin) / 64] |= bit << ((i - begin) % 64);
  }
  return to;
}

}  // namespace

std::uint32_t Coverage::position(Slot slot) const noexcept {
  const auto* at = std::lower_bound(partial_.begin(), partial_.end(), slot,
                                    [](const PartialHolder& p, Slot s) { return p.slot < s; });
  return static_cast<std::uint32_t>(at - partial_.begin());
}

bool Coverage::holders_at_most(std::uint32_t most) const noexcept {
  return partial_.size() <= most && full_.size() + partial_.size() <= most;
}

std::uint32_t Coverage::run_from(Slot slot, std::uint32_t at, std::uint32_t length) const noexcept {
  if (full_.contains(slot)) return length;
  const std::uint32_t found = position(slot);
  if (!is_partial(found, slot)) return at;
  const PartialHolder& holder = partial_[found];
  if (holder.bits == nullptr) return std::max(at, holder.lead);
  return first_zero(holder.bits.get(), at, length);
}

std::uint32_t Coverage::next_held(Slot slot, std::uint32_t at,
                                  std::uint32_t length) const noexcept {
  if (full_.contains(slot)) return at;
  const std::uint32_t found = position(slot);
  if (!is_partial(found, slot)) return length;
  const PartialHolder& holder = partial_[found];
  if (holder.bits == nullptr) return at < holder.lead ? at : length;
  return first_one(holder.bits.get(), at, length);
}

bool Coverage::holds(Slot slot, std::uint32_t at) const noexcept {
  if (full_.contains(slot)) return true;
  const std::uint32_t found = position(slot);
  if (!is_partial(found, slot)) return false;
  const PartialHolder& holder = partial_[found];
  if (holder.bits == nullptr) return at < holder.lead;
  return (holder.bits[at / 64] >> (at % 64) & 1) != 0;
}

void Coverage::mark(Slot slot, std::uint32_t begin, std::uint32_t end,
                    std::uint8_t* marks) const noexcept {
  const std::uint32_t found = position(slot);
  if (full_.contains(slot)) {
    std::fill_n(marks, end - begin, std::uint8_t{1});
  } else if (is_partial(found, slot)) {
    const PartialHolder& holder = partial_[found];
    if (holder.lead > begin) {
      std::fill_n(marks, std::min(holder.lead, end) - begin, std::uint8_t{1});
    }
    if (holder.bits == nullptr) return;
    for (std::uint32_t at = begin; at < end; ++at) {
      if ((holder.bits[at / 64] >> (at % 64) & 1) != 0) marks[at - begin] = 1;
    }
  }
}

std::uint32_t Coverage::held(Slot slot, std::uint32_t length) const noexcept {
  if (full_.contains(slot)) return length;
  const std::uint32_t found = position(slot);
  return is_partial(found, slot) ? partial_[found].held : 0;
}

std::uint32_t Coverage::end(std::uint32_t length) const noexcept {
  if (!full_.empty()) return length;
  std::uint32_t end = 0;
  for (const PartialHolder& holder : partial_) {
    std::uint32_t last = holder.lead;
    if (holder.bits != nullptr) {
      std::uint32_t i = words_for(length);
      while (holder.bits[i - 1] == 0) --i;
      last = i * 64 - static_cast<std::uint32_t>(std::countl_zero(holder.bits[i - 1]));
    }
    end = std::max(end, last);
  }
  return end;
}

/// Brings the partial holder at `at` into its one right form after `held`, `lead` or bits changed.
void Coverage::settle(std::uint32_t at, std::uint32_t length, std::size_t& bytes) {
  PartialHolder& holder = partial_[at];
  if (holder.held > holder.lead) return;
  drop_bits(holder, length, bytes);
  if (holder.held == length) full_.insert(holder.slot, bytes);
  if (holder.held == length || holder.held == 0) partial_.erase(at, bytes);
}

std::uint32_t Coverage::add(Slot slot, std::uint32_t begin, std::uint32_t end, std::uint32_t length,
                            std::size_t& bytes) {
  if (begin == end || full_.contains(slot)) return 0;
  const std::uint32_t at = position(slot);
  if (!is_partial(at, slot)) {
    if (end - begin == length) {
      full_.insert(slot, bytes);
      return length;
    }
    partial_.insert(at, PartialHolder{.slot = slot, .bits = nullptr}, bytes);
  }
  PartialHolder& holder = partial_[at];
  const std::uint32_t before = holder.held;
  if (holder.bits == nullptr && begin <= holder.lead) {
    holder.lead = holder.held = std::max(holder.lead, end);
  } else {
    make_bits(holder, length, bytes);
    holder.held += (end - begin) - count_bits(holder.bits.get(), begin, end);
    set_bits(holder.bits.get(), begin, end);
    holder.lead = first_zero(holder.bits.get(), holder.lead, length);
  }
  const std::uint32_t added = holder.held - before;
  settle(at, length, bytes);
  return added;
}

std::uint32_t Coverage::remove(Slot slot, std::uint32_t begin, std::uint32_t end,
                               std::uint32_t length, std::size_t& bytes) {
  if (begin == end) return 0;
  const std::uint32_t at = position(slot);
  if (full_.contains(slot)) {
    full_.erase(slot, bytes);
    if (end - begin == length) return length;
    partial_.insert(
        at, PartialHolder{.slot = slot, .lead = length, .held = length, .bits = nullptr}, bytes);
  } else if (!is_partial(at, slot)) {
    return 0;
  }
  PartialHolder& holder = partial_[at];
  const std::uint32_t before = holder.held;
  if (holder.bits == nullptr && end >= holder.lead) {
    holder.lead = holder.held = std::min(holder.lead, begin);
  } else {
    make_bits(holder, length, bytes);
    holder.held -= count_bits(holder.bits.get(), begin, end);
    clear_bits(holder.bits.get(), begin, end);
    holder.lead = std::min(holder.lead, begin);
  }
  const std::uint32_t removed = before - holder.held;
  settle(at, length, bytes);
  return removed;
}

Coverage Coverage::split_head(std::uint32_t at, std::uint32_t length, std::size_t& bytes) {
  Coverage head;
  Coverage tail;
  head.full_ = full_.copy(bytes);
  tail.full_ = std::move(full_);
  full_ = SlotSet{};
  for (PartialHolder& holder : partial_) {
    if (holder.bits == nullptr) {
      head.add(holder.slot, 0, std::min(at, holder.lead), at, bytes);
      tail.add(holder.slot, 0, std::max(at, holder.lead) - at, length - at, bytes);
      continue;
    }
    const auto part = [&](Coverage& side, std::uint32_t begin, std::uint32_t end) {
      const std::uint32_t count = count_bits(holder.bits.get(), begin, end);
      if (count == 0) return;
      if (count == end - begin) {
        side.full_.insert(holder.slot, bytes);
        return;
      }
      PartialHolder piece{.slot = holder.slot, .held = count, .bits = nullptr};
      piece.bits = slice(holder.bits.get(), begin, end);
      bytes += bitmap_bytes(end - begin);
      piece.lead = first_zero(piece.bits.get(), 0, end - begin);
      const std::uint32_t last = side.partial_.size();
      side.partial_.insert(last, std::move(piece), bytes);
      side.settle(last, end - begin, bytes);
    };
    part(head, 0, at);
    part(tail, at, length);
  }
  clear(length, bytes);
  *this = std::move(tail);
  return head;
}

/// Sets the bits of the blocks that `slot` holds, moved up by `shift`.
void Coverage::copy_bits(Slot slot, std::uint32_t length, std::uint64_t* bits,
                         std::uint32_t shift) const noexcept {
  if (full_.contains(slot)) {
    set_bits(bits, shift, shift + length);
    return;
  }
  const std::uint32_t at = position(slot);
  if (!is_partial(at, slot)) return;
  const PartialHolder& holder = partial_[at];
  if (holder.bits == nullptr) {
    set_bits(bits, shift, shift + holder.lead);
  } else {
    or_shifted(bits, shift, holder.bits.get(), length);
  }
}

// Word by word: very many short nodes may be put before one long one, one after the other.
void Coverage::put_before(Coverage& head, std::uint32_t head_length, std::uint32_t length,
                          std::size_t& bytes) {
  const std::uint32_t total = head_length + length;
  Coverage joined;
  joined.full_ = full_.copy(bytes);
  full_.for_each([&](Slot slot) {
    if (!head.full_.contains(slot)) joined.full_.erase(slot, bytes);
  });
  const auto join = [&](Slot slot) {
    const std::uint32_t at = joined.position(slot);
    if (joined.full_.contains(slot) || joined.is_partial(at, slot)) return;
    PartialHolder holder{.slot = slot, .bits = nullptr};
    holder.held = head.held(slot, head_length) + held(slot, length);
    holder.lead = head.run_from(slot, 0, head_length);
    if (holder.lead == head_length) holder.lead += run_from(slot, 0, length);
    if (holder.held > holder.lead) {
      make_bits(holder, total, bytes);
      head.copy_bits(slot, head_length, holder.bits.get(), 0);
      copy_bits(slot, length, holder.bits.get(), head_length);
    }
    joined.partial_.insert(at, std::move(holder), bytes);
  };
  head.for_each_holder(join);
  for_each_holder(join);
  head.clear(head_length, bytes);
  clear(length, bytes);
  *this = std::move(joined);
}

std::uint32_t Coverage::partial_if_joined(const Coverage& head, const Coverage& tail) noexcept {
  std::uint32_t different = head.partial_.size() + tail.partial_.size();
  const std::uint32_t begin = std::min(head.full_.word_begin(), tail.full_.word_begin());
  const std::uint32_t end = std::max(head.full_.word_end(), tail.full_.word_end());
  for (std::uint32_t i = begin; i < end; ++i) {
    different += static_cast<std::uint32_t>(std::popcount(head.full_.word(i) ^ tail.full_.word(i)));
  }
  return different;
}

void Coverage::extend(std::uint32_t old_length, std::uint32_t new_length, std::size_t& bytes) {
  for (PartialHolder& holder : partial_) {
    if (holder.bits == nullptr || words_for(new_length) == words_for(old_length)) continue;
    auto bits = std::make_unique<std::uint64_t[]>(words_for(new_length));
    std::copy(holder.bits.get(), holder.bits.get() + words_for(old_length), bits.get());
    holder.bits = std::move(bits);
    bytes += bitmap_bytes(new_length) - bitmap_bytes(old_length);
  }
  full_.for_each([&](Slot slot) {
    partial_.insert(
        position(slot),
        PartialHolder{.slot = slot, .lead = old_length, .held = old_length, .bits = nullptr},
        bytes);
  });
  full_.clear(bytes);
}

void Coverage::truncate(std::uint32_t old_length, std::uint32_t new_length, std::size_t& bytes) {
  for (std::uint32_t i = partial_.size(); i-- > 0;) {
    PartialHolder& holder = partial_[i];
    if (holder.bits != nullptr && words_for(new_length) != words_for(old_length)) {
      auto bits = std::make_unique<std::uint64_t[]>(words_for(new_length));
      std::copy(holder.bits.get(), holder.bits.get() + words_for(new_length), bits.get());
      holder.bits = std::move(bits);
      bytes -= bitmap_bytes(old_length) - bitmap_bytes(new_length);
    }
    settle(i, new_length, bytes);
  }
}

void Coverage::clear(std::uint32_t length, std::size_t& bytes) {
  full_.clear(bytes);
  for (PartialHolder& holder : partial_) drop_bits(holder, length, bytes);
  partial_.erase(0, partial_.size(), bytes);
}

std::size_t Coverage::heap_bytes(std::uint32_t length) const noexcept {
  std::size_t total = full_.heap_bytes() + partial_.heap_bytes();
  for (const PartialHolder& holder : partial_) {
    total += holder.bits != nullptr ? bitmap_bytes(length) : 0;
  }
  return total;
}

}  // namespace kvroute::detail
