#include "router/event_sinks.h"

#include <string>
#include <utility>

#include "kvroute/base/log.h"
#include "kvroute/hash/block_hash.h"

namespace kvroute::detail {

IndexSink::IndexSink(std::string worker, std::shared_ptr<PrefixTree> tree, std::vector<Slot> slots)
    : worker_(std::move(worker)),
      tree_(std::move(tree)),
      slots_(std::move(slots)),
      counters_(slots_.size()) {}

std::optional<std::uint32_t> IndexSink::known(std::uint32_t dp_rank) {
  if (slots_.size() == 1) return 0;
  if (dp_rank < slots_.size()) return dp_rank;
  if (counters_.front().ignored++ == 0) {
    log(LogLevel::kWarning, worker_ + ": its events name rank " + std::to_string(dp_rank) +
                                ", but it was added with dp_ranks=" +
                                std::to_string(slots_.size()) + "; they are ignored");
  }
  return std::nullopt;
}

// A child inherits its parent's namespace, since engines name a salt in the first block only. Where
// the parent is not known, the tree lets the child wait, and drops it if this was not its
// namespace.
std::uint64_t IndexSink::seed_of(Slot slot, const BlockStored& event) const {
  if (event.parent) {
    if (const auto inherited = tree_->namespace_seed_of(slot, *event.parent)) return *inherited;
  }
  // An adapter without a name must still not match the base model.
  std::string lora{event.lora_name};
  if (lora.empty() && event.lora_id) lora = "lora_id " + std::to_string(*event.lora_id);
  return namespace_seed({.lora = lora, .salt = event.salt, .tenant = {}});
}

void IndexSink::hash(const BlockStored& event, std::uint64_t seed) {
  hashes_.resize(event.engine_hashes.size());
  hash_blocks(event.token_ids, event.block_size, seed, hashes_);
  for (std::size_t i = 0; i < event.extra.size(); ++i) {
    if (event.extra[i].digests.empty()) continue;
    const auto tokens = event.token_ids.subspan(i * event.block_size, event.block_size);
    hashes_[i] = hash_block_with_extra(tokens, event.extra[i].digests, seed);
  }
}

StoreResult IndexSink::store(Slot slot, const BlockStored& event) {
  if (event.token_ids.empty()) return tree_->store_known(slot, event.engine_hashes, event.tier);
  const std::uint64_t seed = seed_of(slot, event);
  hash(event, seed);
  return tree_->store(slot, event.parent, event.engine_hashes, hashes_, seed, event.tier);
}

void IndexSink::on_stored(std::uint32_t dp_rank, const BlockStored& event) {
  const auto rank = known(dp_rank);
  if (!rank) return;
  const StoreResult result = store(slots_[*rank], event);
  Counters& counters = counters_[*rank];
  const bool device = event.tier == Tier::device;
  (device ? counters.stored_blocks : counters.stored_lower) += result.applied + result.adopted;
  counters.duplicates += result.duplicates + result.aliased;
  counters.unknown_blocks += result.unknown;
  if (result.unknown_parent) ++counters.unknown_parents;
}

void IndexSink::on_removed(std::uint32_t dp_rank, const BlockRemoved& event) {
  const auto rank = known(dp_rank);
  if (!rank) return;
  const RemoveResult result = tree_->remove(slots_[*rank], event.engine_hashes, event.tier);
  Counters& counters = counters_[*rank];
  const bool device = event.tier == Tier::device;
  (device ? counters.removed_blocks : counters.removed_lower) += result.removed;
  counters.unknown_blocks += result.unknown;
}

void IndexSink::on_cleared(std::uint32_t dp_rank, Tier tier) {
  const auto rank = known(dp_rank);
  if (!rank) return;
  ++counters_[*rank].clears;
  tree_->clear(slots_[*rank], tier);
}

void IndexSink::on_invalidated(std::uint32_t dp_rank, InvalidationReason /*reason*/) {
  if (const auto rank = known(dp_rank)) tree_->clear(slots_[*rank]);
}

SinkStats IndexSink::stats(std::uint32_t dp_rank) const {
  const Counters& counters = counters_[dp_rank];
  return {.stored_blocks = counters.stored_blocks,
          .removed_blocks = counters.removed_blocks,
          .stored_lower = counters.stored_lower,
          .removed_lower = counters.removed_lower,
          .duplicates = counters.duplicates,
          .unknown_parents = counters.unknown_parents,
          .unknown_blocks = counters.unknown_blocks,
          .clears = counters.clears,
          .ignored = counters.ignored};
}

}  // namespace kvroute::detail
