#include "router/ranking.h"

#include <algorithm>
#include <cmath>
#include <compare>
#include <cstdint>
#include <limits>

#include "policy/prediction.h"

namespace kvroute::detail {
namespace {

struct Place {
  double cost = 0;  // never a NaN
  std::uint64_t tokens_in_use = 0;
  std::size_t turn = 0;
  std::size_t position = 0;
  [[nodiscard]] auto operator<=>(const Place&) const = default;
};

double comparable(double cost) {
  return std::isnan(cost) ? std::numeric_limits<double>::infinity() : cost;
}

}  // namespace

std::vector<std::size_t> best_first(const ScoreInput& input, std::span<const double> costs,
                                    std::size_t most, std::optional<std::size_t> chosen) {
  const std::size_t count = input.candidates.size();
  const std::size_t first = chosen ? *chosen + 1 : 0;
  std::vector<Place> places;
  places.reserve(count);
  for (std::size_t position = 0; position < count; ++position) {
    if (position == chosen) continue;
    places.push_back({.cost = costs.empty() ? 0 : comparable(costs[position]),
                      .tokens_in_use = tokens_in_use(input, input.candidates[position]),
                      .turn = position < first ? position + count : position,
                      .position = position});
  }
  most = std::min(most, places.size());
  std::ranges::partial_sort(places, places.begin() + static_cast<std::ptrdiff_t>(most));
  std::vector<std::size_t> order(most);
  std::ranges::transform(places.begin(), places.begin() + static_cast<std::ptrdiff_t>(most),
                         order.begin(), &Place::position);
  return order;
}

}  // namespace kvroute::detail
