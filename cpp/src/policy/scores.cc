#include "policy/scores.h"

#include <algorithm>
#include <array>

#include "policy/known_mean.h"
#include "policy/prediction.h"
#include "policy/range.h"
#include "policy/rendezvous.h"
#include "policy/waiting_requests.h"

namespace kvroute::detail {
namespace {

constexpr double kMostTokens = 4'194'304;
constexpr double kMostWaiting = 128;

// Requests in an engine's running batch, as reported; their mean where it is silent.
class RunningRequests {
 public:
  explicit RunningRequests(const ScoreInput& input) noexcept : reports_(input) {
    KnownMean mean;
    for (const Slot slot : input.candidates) mean.add(reports_.running(slot));
    usual_ = mean.value();
  }
  [[nodiscard]] double operator()(Slot slot) const noexcept {
    const auto running = reports_.running(slot);
    return running ? *running : usual_;
  }

 private:
  FreshReports reports_;
  double usual_ = 0;
};

template <typename Measure>
void add_each(const ScoreInput& input, double weight, std::span<double> sums,
              const Measure& score) noexcept {
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    sums[i] += weight * score(input.candidates[i]);
  }
}

// Adds 1 for the least of a measure, 0 for the most. `measure(slot)`.
template <typename Measure>
void add_lowness(const ScoreInput& input, double weight, std::span<double> sums,
                 const Measure& measure) noexcept {
  Range range;
  for (const Slot slot : input.candidates) range.add(measure(slot));
  add_each(input, weight, sums, [&](Slot slot) { return range.lowness(measure(slot)); });
}

}  // namespace

void add_prefix(const ScoreInput& input, double weight, std::span<double> sums) noexcept {
  const FullBlocks full_blocks(input);
  add_each(input, weight, sums, [&](Slot slot) {
    const std::uint64_t full = full_blocks(slot);
    if (full == 0) return 0.0;
    return static_cast<double>(std::min<std::uint64_t>(full, input.held[slot])) /
           static_cast<double>(full);
  });
}

void add_queue(const ScoreInput& input, double weight, std::span<double> sums) noexcept {
  const WaitingRequests waiting(input);
  const Range range = waiting.range();
  add_each(input, weight, sums, [&](Slot slot) { return range.lowness(waiting(slot)); });
}

void add_running(const ScoreInput& input, double weight, std::span<double> sums) noexcept {
  add_lowness(input, weight, sums, RunningRequests(input));
}

void add_kv_usage(const ScoreInput& input, double weight, std::span<double> sums) noexcept {
  const FreshReports reports(input);
  const auto free = [](double usage) { return 1 - std::clamp(usage, 0.0, 1.0); };
  KnownMean mean;
  bool all_known = true;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const auto usage = reports.kv_usage(input.candidates[i]);
    all_known = all_known && usage.has_value();
    mean.add(usage);
    if (usage) sums[i] += weight * free(*usage);
  }
  if (all_known) return;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (!reports.kv_usage(input.candidates[i])) sums[i] += weight * free(mean.value());
  }
}

void add_active_requests(const ScoreInput& input, double weight, std::span<double> sums) noexcept {
  std::uint32_t most = 0;
  for (const Slot slot : input.candidates) most = std::max(most, input.loads[slot].requests);
  add_each(input, weight, sums, [&](Slot slot) {
    return most == 0 ? 1.0 : static_cast<double>(most - input.loads[slot].requests) / most;
  });
}

void add_token_load(const ScoreInput& input, double weight, std::span<double> sums) noexcept {
  const FullBlocks full_blocks(input);
  add_each(input, weight, sums, [&](Slot slot) {
    const auto tokens = static_cast<double>(tokens_in_use(input, slot) +
                                            full_blocks.added(slot) * input.block_sizes[slot]);
    return 1 - std::min(tokens, kMostTokens) / kMostTokens;
  });
}

void add_load(const ScoreInput& input, double weight, std::span<double> sums) noexcept {
  const WaitingRequests waiting(input);
  add_each(input, weight, sums, [&](Slot slot) {
    return 0.5 * (1 - std::min(waiting(slot), kMostWaiting) / kMostWaiting);
  });
}

void add_session(const ScoreInput& input, double weight, std::span<double> sums) noexcept {
  if (!input.session) return;
  std::size_t owner = 0;
  double most = -1;
  for (std::size_t i = 0; i < input.candidates.size(); ++i) {
    const double wish = rendezvous_weight(*input.session, input.identities[input.candidates[i]]);
    if (wish > most) {
      most = wish;
      owner = i;
    }
  }
  sums[owner] += weight;
}

void add_no_hit_lru(const ScoreInput& input, double weight, std::span<double> sums) noexcept {
  const bool hit =
      std::ranges::any_of(input.candidates, [&](Slot slot) { return input.held[slot] > 0; });
  if (hit) {
    add_each(input, weight, sums, [](Slot) { return 0.5; });
    return;
  }
  add_lowness(input, weight, sums, [&](Slot slot) {
    return input.loads[slot].recent_tokens.value(input.now, input.fleet->recent_time_constant);
  });
}

std::span<const NamedScore> named_scores() noexcept {
  static constexpr std::array kScores{
      NamedScore{"prefix", &add_prefix, true},
      NamedScore{"queue", &add_queue, false},
      NamedScore{"kv_usage", &add_kv_usage, false},
      NamedScore{"running", &add_running, false},
      NamedScore{"active_requests", &add_active_requests, false},
      NamedScore{"token_load", &add_token_load, true},
      NamedScore{"load", &add_load, false},
      NamedScore{"session", &add_session, false},
      NamedScore{"no_hit_lru", &add_no_hit_lru, true},
  };
  return kScores;
}

}  // namespace kvroute::detail
