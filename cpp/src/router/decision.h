#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/load/load_model.h"
#include "kvroute/policy/policy.h"
#include "kvroute/router/router.h"
#include "router/index_pool.h"
#include "router/target_table.h"

namespace kvroute::detail {

/// Working memory of one decision, used again for the next one of the same thread.
class Decision {
 public:
  /// This thread's. Valid until the thread ends; not to be used by two decisions at once.
  [[nodiscard]] static Decision& of_this_thread();

  /// Checks the request and computes its local hashes for every block size in use.
  /// \throws InvalidArgument
  void hash(const Request& request, std::uint32_t router_block_size, const IndexPool& indexes);

  /// Who may be chosen. \throws InvalidArgument, UnknownWorker, NoEligibleWorker
  void find_candidates(const Request& request, const TargetTable& targets);

  /// Walks the tree of every block size: fills `held` and `active` for all slots. Held is what lies
  /// in any tier from the device to `tier`.
  void match(const TargetTable& targets, const IndexPool& indexes, Tier tier = Tier::device);

  /// What a policy sees; views into this object and into `load` (null: nothing of loads).
  [[nodiscard]] ScoreInput input(const Request& request, std::uint32_t router_block_size,
                                 const TargetTable& targets, const LoadModel* load,
                                 Nanoseconds now) const;

  /// Room for one cost per candidate.
  [[nodiscard]] std::span<double> costs();

  [[nodiscard]] std::span<const Slot> candidates() const noexcept { return candidates_; }
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
  void take_depths(const Overlaps& overlaps, Tier tier, std::uint32_t block_size,
                   const TargetTable& targets);

  std::uint64_t num_tokens_ = 0;
  std::vector<Hashes> hashes_;  // the first `sizes_` are in use
  std::size_t sizes_ = 0;
  std::vector<Slot> allowed_;
  std::span<const Slot> candidates_;
  Overlaps overlaps_;
  std::vector<std::uint32_t> held_;
  std::vector<std::uint32_t> active_;
  std::vector<double> costs_;
};

}  // namespace kvroute::detail
