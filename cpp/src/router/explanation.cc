#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "kvroute/router/selection.h"

namespace kvroute {
namespace {

using Row = std::vector<std::string>;

std::string number(double value) {
  std::array<char, 32> text{};
  const int length = std::snprintf(text.data(), text.size(), "%.6g", value);
  return {text.data(), static_cast<std::size_t>(std::max(length, 0))};
}

Row heading(const std::vector<TargetExplanation>& targets) {
  Row row{"target", "cached tokens", "cost"};
  for (const auto& target : targets) {
    if (!target.eligible) continue;
    for (const auto& term : target.terms) row.emplace_back(term.name);
    break;
  }
  return row;
}

Row line(const TargetExplanation& target) {
  Row row{to_string(target.target), std::to_string(target.cached_tokens)};
  if (!target.eligible) {
    row.push_back("not eligible: " + target.reason);
    return row;
  }
  row.push_back(target.cost ? number(*target.cost) : "none");
  for (const auto& term : target.terms) row.push_back(number(term.value));
  return row;
}

// Columns are as wide as their widest cell; a line's last cell takes what it needs.
std::string render(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i + 1 < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text += std::string(widths[i] - row[i].size() + 2, ' ');
    }
    text += '\n';
  }
  return text;
}

}  // namespace

std::string Explanation::text() const {
  std::string text = "policy " + std::string(policy) + ", " + std::to_string(num_tokens) +
                     " prompt tokens, lower cost is better\n";
  std::vector<Row> rows{heading(targets)};
  for (const auto& target : targets) rows.push_back(line(target));
  return text + render(rows);
}

}  // namespace kvroute
