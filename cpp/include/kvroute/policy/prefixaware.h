#pragma once

#include <cstdint>
#include <memory>

#include "kvroute/policy/most_cached.h"

namespace kvroute {

/// vLLM production-stack's `prefixaware`: any of those with the longest match, at random, unless it
/// is shorter than `prefix_min_match_length`; then `fallback` decides, by default `qps`.
///
///     cost = tokens that are not cached                               (see MostCached)
///
/// The length is in tokens (there: characters, in steps of 128), by default 0; then nobody is too
/// short, and a prompt that nobody knows goes to any candidate, as there. Its trie of all prompts
/// that it ever sent, which nothing bounds (#687), is kvroute's index here: what engines announce,
/// and for those that announce nothing this router's own decisions, below the index's limit.
class PrefixAware final : public MostCached {
 public:
  /// Without a `fallback`: `Qps`.
  explicit PrefixAware(std::uint64_t min_match_length = 0,
                       std::unique_ptr<Policy> fallback = nullptr, PickRule rule = {});
  [[nodiscard]] static std::unique_ptr<Policy> from(detail::SpecReader& reader);

  [[nodiscard]] std::string_view name() const noexcept override { return "prefixaware"; }
  [[nodiscard]] const Policy& decider(const ScoreInput& input) const noexcept override;

 private:
  std::uint64_t min_match_length_;
  std::unique_ptr<Policy> fallback_;
};

}  // namespace kvroute
