#include "kvroute/policy/least_load.h"

#include <algorithm>
#include <optional>

#include "policy/known_mean.h"
#include "policy/prediction.h"
#include "policy/spec_reader.h"
#include "policy/waiting_requests.h"

namespace kvroute {
namespace {

constexpr double kMostUsage = 0.999;

// Share of its blocks that bookings use.
std::optional<double> booked_usage(const ScoreInput& input, Slot slot) noexcept {
  const std::uint64_t total = input.total_blocks[slot];
  if (total == 0) return std::nullopt;
  return static_cast<double>(input.loads[slot].active_blocks()) / static_cast<double>(total);
}

}  // namespace

struct LeastLoad::Shared {
  explicit Shared(const ScoreInput& input) noexcept
      : reports(input), waiting(input), scales(input) {
    detail::KnownMean told;
    detail::KnownMean booked;
    for (const Slot slot : input.candidates) told.add(reports.kv_usage(slot));
    somebody_tells = !told.empty();
    if (!somebody_tells) {
      for (const Slot slot : input.candidates) booked.add(booked_usage(input, slot));
    }
    usual_usage = (somebody_tells ? told : booked).value();
  }
  // Figures of one kind are compared: what bookings use is less than what an engine reports.
  [[nodiscard]] double usage(const ScoreInput& input, Slot slot) const noexcept {
    const auto own = somebody_tells ? reports.kv_usage(slot) : booked_usage(input, slot);
    return own.value_or(usual_usage);
  }
  detail::FreshReports reports;
  detail::WaitingRequests waiting;
  detail::PrefillScales scales;
  bool somebody_tells = false;
  double usual_usage = 0;
};

struct LeastLoad::Parts {
  double queued;      // tokens
  double throughput;  // tokens a second
  double usage;
  double pressure;  // seconds
  [[nodiscard]] double wait() const noexcept { return queued / throughput; }
  [[nodiscard]] double cost() const noexcept { return wait() + pressure; }
};

std::unique_ptr<Policy> LeastLoad::from(detail::SpecReader& reader) {
  const LeastLoadOptions absent;
  return std::make_unique<LeastLoad>(
      LeastLoadOptions{.kv_pressure_weight =
                           reader.number("kv_pressure_weight", absent.kv_pressure_weight, 0, 1e6),
                       .mean_prefill_tokens =
                           reader.number("mean_prefill_tokens", absent.mean_prefill_tokens, 0, 1e9),
                       .throughput = reader.number("throughput", absent.throughput, 0, 1e9)},
      reader.pick_rule());
}

LeastLoad::Parts LeastLoad::parts(const ScoreInput& input, const Shared& shared,
                                  Slot slot) const noexcept {
  const TargetLoad& load = input.loads[slot];
  Parts parts{};
  parts.queued = std::max(static_cast<double>(load.prefill_tokens),
                          shared.waiting(slot) * options_.mean_prefill_tokens);
  parts.throughput = options_.throughput > 0
                         ? options_.throughput
                         : input.fleet->prefill.tokens_per_second / shared.scales(slot);
  parts.usage = std::clamp(shared.usage(input, slot), 0.0, kMostUsage);
  parts.pressure = options_.kv_pressure_weight * parts.usage / (1 - parts.usage);
  return parts;
}

void LeastLoad::score(const ScoreInput& input, std::span<double> costs) const noexcept {
  const Shared shared(input);
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    costs[i] = parts(input, shared, input.candidates[i]).cost();
  }
}

std::vector<CostTerm> LeastLoad::terms(const ScoreInput& input, Slot slot) const {
  const Parts p = parts(input, Shared(input), slot);
  return {{"queue_seconds", p.wait()},
          {"kv_pressure_seconds", p.pressure},
          {"queued_tokens", p.queued},
          {"tokens_per_second", p.throughput},
          {"kv_usage", p.usage}};
}

}  // namespace kvroute
