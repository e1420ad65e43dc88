#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "choices.h"
#include "engine_naming.h"
#include "operation.h"

namespace kvroute::testing {

struct GeneratorOptions {
  std::uint32_t slots = 5;
  std::uint32_t first_slot = 0;
  std::uint32_t alphabet = 3;     // labels at a branching point
  std::uint32_t max_length = 40;  // blocks of a sequence
  std::uint32_t capacity = 120;   // blocks that an engine keeps
  std::uint32_t namespaces = 3;   // seeds; a path's first block decides which. One place has one
                                  // seed, so 1 where a name may stand for other content
  Naming naming = Naming::kAgree;
  bool few_labels = false;  // the same labels below every block
  bool tiers = true;        // offload to lower tiers, and from there back
  bool unreliable = true;   // events come late, or never
  bool predictive = true;   // slots get and lose capacities
  bool snapshots = true;    // the tree is saved and loaded
  bool chaos = false;       // orders and names that no engine should send
};

/// Events as engines send them, for several engines that share prefixes: requests that reuse what
/// is cached and store the rest, decoding that grows a sequence block by block, copies stored
/// twice, eviction of the least recently used sequence from its tail or its head, offloading,
/// clears of a tier or of all, and flaps; between them the router's own calls. In chaos mode also
/// everything else.
class EventGenerator {
 public:
  EventGenerator(Choices& choices, const GeneratorOptions& options)
      : choices_(choices), options_(options) {
    for (std::uint32_t i = 0; i < options.slots; ++i) engines_.emplace_back(options.naming, i);
  }

  [[nodiscard]] Op next() {
    now_ += static_cast<Nanoseconds>(choices_.below(4)) * 1'000'000'000;
    const Slot index = choices_.below(options_.slots);
    Op op = delayed(engines_[index], make(engines_[index], index));
    op.now = now_;
    op.slot = index + options_.first_slot;
    return op;
  }

  /// A request's labels: often the beginning of something cached, with a tail of its own.
  [[nodiscard]] std::vector<std::uint64_t> request() {
    std::vector<std::uint64_t> labels;
    const std::uint32_t length = choices_.below(options_.max_length + 1);
    std::uint64_t state = 0;
    while (labels.size() < length) {
      // Branch seldom, so that runs are long and still part in every way.
      const bool branch = labels.size() < 2 || choices_.one_in(8);
      const std::uint64_t turn = branch ? choices_.below(options_.alphabet) : 0;
      labels.push_back(next_label(state, turn));
      state = labels.back();
    }
    return labels;
  }

 private:
  struct Cached {
    std::vector<std::uint64_t> labels;
    std::vector<std::uint64_t> names;
  };
  struct Engine {
    Engine(Naming naming, std::uint32_t index) : names(naming, index) {}
    EngineNames names;
    std::array<std::map<std::uint64_t, std::uint32_t>, kTiers> copies;  // announced, by name
    std::deque<Cached> sequences;                                       // least recently used first
    std::array<std::deque<std::vector<std::uint64_t>>, kTiers> offloaded;  // names, oldest first
    std::deque<Op> late;
  };

  [[nodiscard]] std::uint64_t next_label(std::uint64_t before, std::uint64_t turn) const {
    return options_.few_labels ? 1 + turn : mix(before + turn + 1);
  }

  Op make(Engine& engine, Slot index) {
    if (options_.chaos && choices_.one_in(3)) return chaos(engine);
    switch (choices_.below(24)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4: return serve(engine);
      case 5:
      case 6: return grow(engine);
      case 7:
      case 8:
      case 9:
      case 10: return evict(engine);
      case 11: return choices_.one_in(12) ? forget(engine, index) : serve(engine);
      case 12:
      case 13: return with_labels(OpKind::kPredict, request());
      case 14: return of_kind(OpKind::kExpire);
      case 15: return with_labels(OpKind::kPin, request());
      case 16: return of_kind(OpKind::kUnpin, choices_.below(1000));
      case 17: return options_.tiers ? offload(engine) : serve(engine);
      case 18: return options_.tiers ? evict_offloaded(engine) : evict(engine);
      case 19: return options_.tiers ? bring_back(engine) : grow(engine);
      case 20: return seldom(engine);
      default: return with_labels(OpKind::kMatch, request());
    }
  }

  Op seldom(Engine& engine) {
    const std::uint32_t which = choices_.below(18);
    if (which > 15) return clear_tier(engine);
    if (which < 5 && options_.predictive) {
      Op op = of_kind(OpKind::kSetCapacity);
      if (!choices_.one_in(5)) op.capacity = 1 + choices_.below(2 * options_.max_length);
      return op;
    }
    if (which < 9 && options_.snapshots) return of_kind(OpKind::kSnapshot, choices_.below(1000));
    if (which < 12) return of_kind(OpKind::kVisit);
    return with_labels(OpKind::kMatch, request());
  }

  static Op of_kind(OpKind kind, std::uint32_t which = 0) {
    Op op;
    op.kind = kind;
    op.which = which;
    return op;
  }

  static Op with_labels(OpKind kind, std::vector<std::uint64_t> labels) {
    Op op = of_kind(kind);
    op.labels = std::move(labels);
    return op;
  }

  /// Some stored events come later than what follows them, and some never.
  Op delayed(Engine& engine, Op op) {
    if (!options_.unreliable) return op;
    if (op.kind == OpKind::kStore && choices_.one_in(12)) {
      if (!choices_.one_in(4)) engine.late.push_back(std::move(op));
      return with_labels(OpKind::kMatch, request());
    }
    if (op.kind != OpKind::kMatch || engine.late.empty() || !choices_.one_in(2)) return op;
    const auto at =
        engine.late.begin() + choices_.below(static_cast<std::uint32_t>(engine.late.size()));
    op = std::move(*at);
    engine.late.erase(at);
    return op;
  }

  Op serve(Engine& engine) {
    Cached sequence{request(), {}};
    sequence.names = engine.names.of(sequence.labels, choices_);
    std::size_t cached = 0;
    while (cached < sequence.names.size() && engine.copies[0].contains(sequence.names[cached])) {
      ++cached;
    }
    if (cached > 0 && choices_.one_in(4)) cached -= 1 + choices_.below(2) % cached;  // a copy
    Op op = announce(engine, sequence, cached, sequence.names.size(), Tier::device);
    engine.sequences.push_back(std::move(sequence));
    return op;
  }

  Op grow(Engine& engine) {
    if (engine.sequences.empty()) return serve(engine);
    Cached& sequence = engine.sequences.back();
    const std::size_t before = sequence.labels.size();
    for (std::uint32_t i = 0; i <= choices_.below(2); ++i) {
      const std::uint64_t last = sequence.labels.empty() ? 0 : sequence.labels.back();
      sequence.labels.push_back(next_label(last, choices_.below(2)));
    }
    sequence.names = engine.names.of(sequence.labels, choices_);
    return announce(engine, sequence, before, sequence.names.size(), Tier::device);
  }

  Op announce(Engine& engine, const Cached& sequence, std::size_t begin, std::size_t end,
              Tier tier) {
    Op op = of_kind(OpKind::kStore);
    op.tier = tier;
    if (begin > 0) op.parent = sequence.names[begin - 1];
    for (std::size_t i = begin; i < end; ++i) {
      op.labels.push_back(sequence.labels[i]);
      op.names.push_back(sequence.names[i]);
      ++engine.copies[index_of(tier)][sequence.names[i]];
    }
    op.namespace_seed = seed_of(sequence.labels);
    // Engines name what separates a namespace in a sequence's first block only.
    op.orphan_seed = choices_.one_in(3) ? 40 : op.namespace_seed;
    return op;
  }

  [[nodiscard]] std::uint64_t seed_of(const std::vector<std::uint64_t>& labels) const {
    return labels.empty() ? 0 : 40 + labels.front() % options_.namespaces;
  }

  Op evict(Engine& engine) {
    if (engine.sequences.empty()) return of_kind(OpKind::kRemove);
    std::size_t count = 1 + choices_.below(options_.max_length);
    if (engine.copies[0].size() < options_.capacity) count = std::min<std::size_t>(count, 2);
    Op op = take(engine, engine.sequences.front().names, count, Tier::device);
    if (engine.sequences.front().names.empty()) engine.sequences.pop_front();
    return op;
  }

  /// Removal of `count` names from the list's tail, or from its head.
  Op take(Engine& engine, std::vector<std::uint64_t>& names, std::size_t count, Tier tier) {
    Op op = of_kind(OpKind::kRemove);
    op.tier = tier;
    auto& copies = engine.copies[index_of(tier)];
    const bool head_first = choices_.one_in(4);
    while (count-- > 0 && !names.empty()) {
      const auto at = head_first ? names.begin() : std::prev(names.end());
      const auto copy = copies.find(*at);
      if (copy != copies.end()) {
        op.names.push_back(*at);
        if (--copy->second == 0) copies.erase(copy);
      }
      names.erase(at);
    }
    return op;
  }

  /// A part of a sequence goes to a lower tier; engines say so in full, or by its names alone.
  Op offload(Engine& engine) {
    if (engine.sequences.empty()) return serve(engine);
    const Cached& sequence = some(engine.sequences);
    const auto [begin, end] = range_of(sequence.names.size());
    const auto tier = static_cast<Tier>(1 + choices_.below(kTiers - 1));
    // What was evicted from a sequence's head is missing in its names.
    const bool whole = sequence.names.size() == sequence.labels.size();
    Op op;
    if (whole && choices_.one_in(2)) {
      op = announce(engine, sequence, begin, end, tier);
    } else {
      op = of_kind(OpKind::kStoreKnown);
      op.tier = tier;
      const auto names = std::span(sequence.names).subspan(begin, end - begin);
      op.names.assign(names.begin(), names.end());
      for (const std::uint64_t name : op.names) ++engine.copies[index_of(tier)][name];
    }
    engine.offloaded[index_of(tier)].push_back(op.names);
    return op;
  }

  Op evict_offloaded(Engine& engine) {
    const auto tier = static_cast<Tier>(1 + choices_.below(kTiers - 1));
    auto& offloaded = engine.offloaded[index_of(tier)];
    if (offloaded.empty()) return of_kind(OpKind::kRemove);
    Op op = take(engine, offloaded.front(), 1 + choices_.below(options_.max_length), tier);
    if (offloaded.front().empty()) offloaded.pop_front();
    return op;
  }

  Op bring_back(Engine& engine) {
    if (engine.sequences.empty()) return serve(engine);
    Cached sequence{some(engine.sequences).labels, {}};
    sequence.names = engine.names.of(sequence.labels, choices_);
    const auto [begin, end] = range_of(sequence.names.size());
    Op op = announce(engine, sequence, begin, end, Tier::device);
    engine.sequences.push_back(std::move(sequence));
    return op;
  }

  const Cached& some(const std::deque<Cached>& sequences) {
    return sequences[choices_.below(static_cast<std::uint32_t>(sequences.size()))];
  }
  std::pair<std::size_t, std::size_t> range_of(std::size_t length) {
    const auto size = static_cast<std::uint32_t>(length);
    const std::uint32_t begin = choices_.one_in(2) ? 0 : choices_.below(size + 1);
    return {begin, begin + choices_.below(size - begin + 1)};
  }

  Op forget(Engine& engine, Slot index) {
    auto late = std::move(engine.late);
    engine = Engine(options_.naming, index);
    // Events from before may still come, unless their names stand for other content by now.
    const bool by_content = options_.naming < Naming::kCounted || options_.namespaces == 1;
    if (by_content && choices_.one_in(2)) engine.late = std::move(late);
    return of_kind(choices_.one_in(2) ? OpKind::kRelease : OpKind::kClear);
  }

  Op clear_tier(Engine& engine) {
    Op op = of_kind(OpKind::kClearTier);
    if (options_.tiers) op.tier = static_cast<Tier>(choices_.below(kTiers));
    engine.copies[index_of(op.tier)].clear();
    engine.offloaded[index_of(op.tier)].clear();
    if (op.tier == Tier::device) engine.sequences.clear();
    return op;
  }

  Op chaos(Engine& engine) {
    Op op = with_labels(choices_.one_in(3) ? OpKind::kRemove : OpKind::kStore, request());
    if (options_.tiers && choices_.one_in(3)) op.tier = static_cast<Tier>(choices_.below(kTiers));
    op.namespace_seed = seed_of(op.labels);
    op.orphan_seed = op.namespace_seed;
    for (std::size_t i = 0; i < op.labels.size(); ++i) {
      op.names.push_back(choices_.one_in(3) ? choices_.below(8) : mix(op.labels[i]));
    }
    if (op.kind == OpKind::kStore && options_.tiers && choices_.one_in(6)) {
      op.kind = OpKind::kStoreKnown;
    } else if (choices_.one_in(2)) {
      op.parent = choices_.one_in(2) ? choices_.below(8) : any_name(engine);
    }
    return op;
  }

  std::uint64_t any_name(const Engine& engine) {
    const auto& copies = engine.copies[0];
    if (copies.empty()) return 1;
    return std::next(copies.begin(), choices_.below(static_cast<std::uint32_t>(copies.size())))
        ->first;
  }

  Choices& choices_;
  GeneratorOptions options_;
  std::vector<Engine> engines_;
  Nanoseconds now_ = 0;
};

}  // namespace kvroute::testing
