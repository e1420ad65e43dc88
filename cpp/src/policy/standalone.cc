#include "kvroute/policy/standalone.h"

#include <algorithm>

#include "policy/known_mean.h"
#include "policy/prediction.h"
#include "policy/spec_reader.h"
#include "policy/waiting_requests.h"

namespace kvroute {
namespace {

/// What one candidate's cost takes from all of them.
struct Fleet {
  explicit Fleet(const ScoreInput& input) noexcept : queue(input), reports(input) {
    detail::KnownMean usages;
    for (const Slot slot : input.candidates) usages.add(reports.kv_usage(slot));
    usual_usage = usages.value();
    most_waiting = queue.range().most;
  }

  detail::WaitingRequests queue;
  detail::FreshReports reports;
  double usual_usage = 0;
  double most_waiting = 0;
};

struct Parts {
  double overlap;
  double usage;
  double queue;
  [[nodiscard]] double cost() const noexcept { return -(2 * overlap - usage - queue); }
};

Parts parts(const ScoreInput& input, Slot slot, const Fleet& fleet) noexcept {
  return {static_cast<double>(input.cached_tokens(slot)) / static_cast<double>(input.num_tokens),
          fleet.reports.kv_usage(slot).value_or(fleet.usual_usage),
          fleet.most_waiting > 0 ? fleet.queue(slot) / fleet.most_waiting : 0.0};
}

}  // namespace

std::unique_ptr<Policy> Standalone::from(detail::SpecReader& reader) {
  return std::make_unique<Standalone>(reader.pick_rule());
}

void Standalone::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const Fleet fleet(input);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = parts(input, input.candidates[i], fleet).cost();
  }
}

std::vector<CostTerm> Standalone::terms(const ScoreInput& input, Slot slot) const {
  const Fleet fleet(input);
  const Parts p = parts(input, slot, fleet);
  return {{"logit", -p.cost()},
          {"overlap", p.overlap},
          {"kv_usage", p.usage},
          {"normalized_waiting", p.queue},
          {"waiting", fleet.queue(slot)}};
}

}  // namespace kvroute
