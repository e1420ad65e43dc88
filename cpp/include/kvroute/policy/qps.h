#pragma once

#include "kvroute/policy/policy.h"

namespace kvroute {

/// The fewest requests a second (vLLM production-stack: `_qps_routing`, and #587's `qps`):
///
///     cost    = requests chosen for in the window / seconds observed in the window
///     seconds = integral over the window of min(1, age / warm_up)
///
/// The window is `FleetLoad::window_seconds` (60); `age` is the time since the target was added,
/// at each instant, and nothing before; a target older than window and warm-up has the whole
/// window. A new target thus counts as 0 and gets the next request, as there. But what it got is
/// measured against the short time it is there, of which the first `warm_up` seconds weigh by a
/// rising ramp: its share of the requests grows from nothing to everybody's, instead of all of them
/// going there until its count has caught up with a whole window of the others'. Ties at random.
class Qps final : public Policy {
 public:
  static constexpr double kWarmUpSeconds = 30;

  explicit Qps(double warm_up_seconds = kWarmUpSeconds, PickRule rule = {})
      : Policy(rule), warm_up_(warm_up_seconds) {}
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "qps"; }
  [[nodiscard]] bool needs_overlap() const noexcept override { return false; }
  void score(const ScoreInput& input, std::span<double> costs) const noexcept override;
  [[nodiscard]] std::vector<CostTerm> terms(const ScoreInput& input, Slot slot) const override;

 private:
  struct Parts {
    double requests = 0;
    double seconds = 0;
    [[nodiscard]] double rate() const noexcept { return requests / seconds; }
  };

  [[nodiscard]] Parts parts(const ScoreInput& input, Slot slot, Window::Part now) const noexcept;
  [[nodiscard]] double seconds_since_joining(double age) const noexcept;

  double warm_up_;
};

}  // namespace kvroute
