#include "kvroute/policy/weighted.h"

#include <algorithm>

#include "kvroute/base/error.h"
#include "policy/scores.h"
#include "policy/spec_reader.h"

namespace kvroute {

Weighted::Weighted(const Terms& terms, PickRule rule, std::string_view place) : Policy(rule) {
  for (const auto& [name, weight] : terms) {
    const auto scores = detail::named_scores();
    const auto found = std::ranges::find(scores, name, &detail::NamedScore::name);
    if (found == scores.end()) {
      std::string known;
      for (const auto& score : scores) known.append(" '").append(score.name).append("'");
      std::string message(place);
      message.append(": expected scores of").append(known);
      throw InvalidArgument(message.append(", got '").append(name).append("'"));
    }
    terms_.emplace_back(&*found, weight);
  }
}

std::unique_ptr<Policy> Weighted::from(detail::SpecReader& reader) {
  Terms terms = reader.numbers("terms", 0, 1e6);
  if (terms.empty()) terms = default_terms();
  return std::make_unique<Weighted>(terms, reader.pick_rule(), reader.place_of("terms"));
}

bool Weighted::needs_overlap() const noexcept {
  return std::ranges::any_of(terms_, [](const auto& term) { return term.first->needs_overlap; });
}

void Weighted::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  std::ranges::fill(costs, 0.0);
  for (const auto& [score, weight] : terms_) score->add(input, -weight, costs);
}

std::vector<CostTerm> Weighted::terms(const ScoreInput& input, Slot slot) const {
  const auto at = static_cast<std::size_t>(std::ranges::find(input.candidates, slot) -
                                           input.candidates.begin());
  std::vector<CostTerm> terms{{"score", 0}};
  for (const auto& [score, weight] : terms_) {
    std::vector<double> scores(input.candidates.size());
    score->add(input, 1, scores);
    terms.push_back({score->name, scores[at]});
    terms.front().value += weight * scores[at];
  }
  return terms;
}

}  // namespace kvroute
