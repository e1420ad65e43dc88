#pragma once

#include <vector>

#include "kvroute/router/selection.h"

namespace kvroute {

/// Every target's cost (-1: none) and the values of its terms, in order.
inline std::vector<double> figures_of(const Explanation& explanation) {
  std::vector<double> figures;
  for (const auto& target : explanation.targets) {
    figures.push_back(target.cost.value_or(-1));
    for (const CostTerm& term : target.terms) figures.push_back(term.value);
  }
  return figures;
}

}  // namespace kvroute
