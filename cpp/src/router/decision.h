#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/load/load_model.h"
#include "kvroute/policy/policy.h"
#include "kvroute/router/router.h"
#include "router/eligibility.h"
#include "router/index_pool.h"
#include "router/target_table.h"

namespace kvroute::detail {

/// Working memory of one decision, used again for the next one of the same thread.
class Decision {
 public:
  /// This thread's. Valid until the thread ends; not to be used by two decisions at once.
  [[nodiscard]] static Decision& of_this_thread();

  /// Checks the request, and starts with nothing known of it but its length.
  /// \throws InvalidArgument
  void begin(const Request& request, std::uint32_t router_block_size);

  /// Computes its local hashes for every block size in use.
  void hash(const Request& request, std::uint32_t router_block_size, const IndexPool& indexes);

  /// Who may be chosen, and whom of them it prefers. `reasons` as Eligibility::find takes it.
  /// \throws InvalidArgument, UnknownWorker
  void find_eligible(const Request& request, const TargetTable& targets, bool reasons = false);

  /// Walks the tree of every block size: fills what each slot holds, in every tier that has
  /// anything, and what its requests use. Nothing without hashes.
  void match(const TargetTable& targets, const IndexPool& indexes);

  /// What a policy sees; views into this object and into `load` (null: nothing of loads).
  [[nodiscard]] ScoreInput input(const Request& request, std::uint32_t router_block_size,
                                 const TargetTable& targets, const LoadModel* load,
                                 Nanoseconds now) const;

  /// The caller's costs to `costs()`; who it did not know gets an infinite one. False if it knew
  /// nobody who may still be chosen.
  [[nodiscard]] bool take_given(const GivenCosts& given, const TargetTable& targets);

  /// Room for one cost per candidate.
  [[nodiscard]] std::span<double> costs();

  [[nodiscard]] Eligibility& eligibility() noexcept { return eligibility_; }
  [[nodiscard]] std::uint64_t num_tokens() const noexcept { return num_tokens_; }
  /// Of that block size; empty if nobody uses it.
  [[nodiscard]] std::span<const std::uint64_t> hashes(std::uint32_t block_size) const;

 private:
  struct Hashes {
    std::uint32_t block_size = 0;
    std::vector<std::uint64_t> own;
    std::span<const std::uint64_t> view;  // of `own`, or of the caller's
  };

  [[nodiscard]] Hashes& next_hashes(std::uint32_t block_size);
  void take_depths(std::uint32_t block_size, const TargetTable& targets);

  std::uint64_t num_tokens_ = 0;
  std::vector<Hashes> hashes_;  // the first `sizes_` are in use
  std::size_t sizes_ = 0;
  Eligibility eligibility_;
  std::vector<double> preferences_;
  Overlaps overlaps_;
  std::vector<std::uint32_t> held_;
  std::array<std::vector<std::uint32_t>, kTiers - 1> lower_;  // all empty, or of all slots
  std::vector<std::uint32_t> active_;
  std::vector<double> costs_;
};

}  // namespace kvroute::detail
