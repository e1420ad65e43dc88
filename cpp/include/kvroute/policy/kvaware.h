#pragma once

#include <memory>

#include "kvroute/policy/most_cached.h"

namespace kvroute {

/// vLLM production-stack's `kvaware`: where most of the prompt is cached, if that is enough of it.
///
///     hit  = longest match > 0  and  longest match >= max(num_tokens - kv_aware_threshold, 0)
///     cost = tokens that are not cached                               (see MostCached)
///
/// The longest match is that of the candidate with the most cached tokens; on its device, in
/// tokens. Without a hit, `fallback` decides, by default `session`, which without a session id
/// takes the fewest requests a second. `kv_aware_threshold` (2,000) is in tokens: a longer rest
/// than that is no hit; prompts of up to so many tokens hit with any match, as there. It takes the
/// first holder that its controller names; here the longest match has it, and ties spread.
class KvAware final : public MostCached {
 public:
  static constexpr double kThreshold = 2000;

  /// Without a `fallback`: `Session`.
  explicit KvAware(double threshold = kThreshold, std::unique_ptr<Policy> fallback = nullptr,
                   PickRule rule = {});
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);
  /// The same for a policy that reads the rule itself.
  [[nodiscard]] static std::unique_ptr<Policy> with_rule(detail::SpecReader& reader, PickRule rule);

  [[nodiscard]] std::string_view name() const noexcept override { return "kvaware"; }
  [[nodiscard]] const Policy& decider(const ScoreInput& input) const noexcept override;

 private:
  double threshold_;
  std::unique_ptr<Policy> fallback_;
};

}  // namespace kvroute
