#include "router/decision_page.h"

namespace kvroute::detail {
namespace {

template <typename T>
std::size_t bytes_of(const std::vector<T>& values) noexcept {
  return values.capacity() * sizeof(T);
}

}  // namespace

std::size_t RareInput::bytes() const noexcept {
  std::size_t sum = sizeof(*this) + bytes_of(preferences) + bytes_of(given);
  for (const auto& of_tier : depths) sum += bytes_of(of_tier);
  return sum;
}

std::size_t DecisionEntry::more_bytes() const noexcept {
  return request_id.capacity() + (rare ? rare->bytes() : 0);
}

std::size_t DecisionPage::own_bytes() const noexcept {
  std::size_t sum = sizeof(*this) + bytes_of(entries) + bytes_of(changes) + bytes_of(hashes) +
                    bytes_of(by_slot) + bytes_of(standings);
  for (const DecisionEntry& entry : entries) sum += entry.more_bytes();
  return sum;
}

}  // namespace kvroute::detail
