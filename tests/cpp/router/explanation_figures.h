#pragma once

#include <vector>

#include "kvroute/router/selection.h"

namespace kvroute {

/// Every target's cost (-1: none), the values of its terms and the length of the reason why it is
/// not eligible, in order.
inline std::vector<double> figures_of(const Explanation& explanation) {
  std::vector<double> figures;
  for (const auto& target : explanation.targets) {
    figures.push_back(target.cost.value_or(-1));
    for (const CostTerm& term : target.terms) figures.push_back(term.value);
    figures.push_back(static_cast<double>(target.reason.size()));
  }
  return figures;
}

}  // namespace kvroute
