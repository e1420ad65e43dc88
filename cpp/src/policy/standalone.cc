#include "kvroute/policy/standalone.h"

#include <algorithm>
#include <optional>

namespace kvroute {
namespace {

constexpr Nanoseconds kReportLifetime = 60'000'000'000;

bool is_fresh(const TargetLoad& load, Nanoseconds now) noexcept {
  return load.reports > 0 && now <= after(load.reported_at, kReportLifetime);
}

std::optional<double> usage(const TargetLoad& load, Nanoseconds now) noexcept {
  return is_fresh(load, now) ? load.reported.kv_usage : std::nullopt;
}

std::optional<double> waiting(const TargetLoad& load, Nanoseconds now) noexcept {
  if (!is_fresh(load, now) || !load.reported.waiting) return std::nullopt;
  return static_cast<double>(*load.reported.waiting);
}

/// Mean of what is known; 0 where nothing is.
class Mean {
 public:
  void add(std::optional<double> value) noexcept {
    if (!value) return;
    sum_ += *value;
    ++count_;
  }
  [[nodiscard]] double value() const noexcept { return count_ > 0 ? sum_ / count_ : 0; }

 private:
  double sum_ = 0;
  double count_ = 0;
};

/// What one candidate's cost takes from all of them.
struct Fleet {
  explicit Fleet(const ScoreInput& input) noexcept {
    Mean usages;
    Mean queues;
    for (const Slot slot : input.candidates) {
      usages.add(usage(input.loads[slot], input.now));
      queues.add(waiting(input.loads[slot], input.now));
    }
    usual_usage = usages.value();
    usual_waiting = queues.value();
    for (const Slot slot : input.candidates) {
      most_waiting = std::max(most_waiting, queue(input, slot));
    }
  }

  [[nodiscard]] double queue(const ScoreInput& input, Slot slot) const noexcept {
    const TargetLoad& load = input.loads[slot];
    return waiting(load, input.now).value_or(usual_waiting) + static_cast<double>(load.picks);
  }

  double usual_usage = 0;
  double usual_waiting = 0;
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
          usage(input.loads[slot], input.now).value_or(fleet.usual_usage),
          fleet.most_waiting > 0 ? fleet.queue(input, slot) / fleet.most_waiting : 0.0};
}

}  // namespace

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
          {"waiting", fleet.queue(input, slot)}};
}

}  // namespace kvroute
