#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "choices.h"
#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"

namespace kvroute::testing {

enum class OpKind : std::uint8_t {
  kStore,
  kRemove,
  kClear,
  kRelease,
  kPredict,
  kExpire,
  kPin,
  kUnpin,
  kMatch
};

/// One call of a prefix tree, ready to be applied to a tree and to a model alike.
struct Op {
  OpKind kind = OpKind::kMatch;
  Slot slot = 0;
  std::optional<std::uint64_t> parent;
  std::vector<std::uint64_t> names;
  std::vector<std::uint64_t> labels;
  std::uint64_t namespace_seed = 0;
  Nanoseconds now = 0;
  std::uint32_t which = 0;  // of the pins that are out, modulo their number
};

struct GeneratorOptions {
  std::uint32_t slots = 5;
  std::uint32_t first_slot = 0;
  std::uint32_t alphabet = 3;     // labels at a branching point
  std::uint32_t max_length = 40;  // blocks of a sequence
  std::uint32_t capacity = 120;   // blocks that an engine keeps
  bool own_names = false;         // engines name one content differently
  bool chaos = false;             // orders and names that no engine should send
};

/// Events as engines send them, for several engines that share prefixes: requests that reuse what
/// is cached and store the rest, decoding that grows a sequence block by block, copies stored
/// twice, eviction of the least recently used sequence from its tail or its head, clears and
/// flaps; between them the router's own calls. In chaos mode also everything else.
class EventGenerator {
 public:
  EventGenerator(Choices& choices, const GeneratorOptions& options)
      : choices_(choices), options_(options), engines_(options.slots) {}

  [[nodiscard]] Op next() {
    now_ += static_cast<Nanoseconds>(choices_.below(4)) * 1'000'000'000;
    const Slot index = choices_.below(options_.slots);
    Op op = make(engines_[index], index);
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
      state = mix(state + turn + 1);
      labels.push_back(state);
    }
    return labels;
  }

 private:
  struct Cached {
    std::vector<std::uint64_t> labels;
    std::vector<std::uint64_t> names;
  };
  struct Engine {
    std::map<std::uint64_t, std::uint32_t> copies;  // name -> copies announced
    std::deque<Cached> sequences;                   // least recently used first
  };

  static std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
  }

  [[nodiscard]] std::vector<std::uint64_t> names_of(const std::vector<std::uint64_t>& labels,
                                                    Slot index) const {
    std::uint64_t name = options_.own_names ? mix(index) : 7;
    std::vector<std::uint64_t> names;
    for (const std::uint64_t label : labels) names.push_back(name = mix(name ^ label));
    return names;
  }

  Op make(Engine& engine, Slot index) {
    if (options_.chaos && choices_.one_in(3)) return chaos(engine);
    switch (choices_.below(16)) {
      case 0:
      case 1:
      case 2:
      case 3: return serve(engine, index);
      case 4:
      case 5: return grow(engine, index);
      case 6:
      case 7:
      case 8: return evict(engine);
      case 9: return choices_.one_in(12) ? forget(engine) : serve(engine, index);
      case 10: return with_labels(OpKind::kPredict, request());
      case 11: return of_kind(OpKind::kExpire);
      case 12: return with_labels(OpKind::kPin, request());
      case 13: return unpin();
      default: return with_labels(OpKind::kMatch, request());
    }
  }

  static Op of_kind(OpKind kind) {
    Op op;
    op.kind = kind;
    return op;
  }

  Op unpin() {
    Op op = of_kind(OpKind::kUnpin);
    op.which = choices_.below(1000);
    return op;
  }

  static Op with_labels(OpKind kind, std::vector<std::uint64_t> labels) {
    Op op = of_kind(kind);
    op.labels = std::move(labels);
    return op;
  }

  Op serve(Engine& engine, Slot index) {
    Cached sequence{request(), {}};
    sequence.names = names_of(sequence.labels, index);
    std::size_t cached = 0;
    while (cached < sequence.names.size() && engine.copies.contains(sequence.names[cached])) {
      ++cached;
    }
    if (cached > 0 && choices_.one_in(4)) cached -= 1 + choices_.below(2) % cached;  // a copy
    Op op = announce(engine, sequence, cached, sequence.names.size());
    engine.sequences.push_back(std::move(sequence));
    return op;
  }

  Op grow(Engine& engine, Slot index) {
    if (engine.sequences.empty()) return serve(engine, index);
    Cached& sequence = engine.sequences.back();
    const std::size_t before = sequence.labels.size();
    for (std::uint32_t i = 0; i <= choices_.below(2); ++i) {
      const std::uint64_t last = sequence.labels.empty() ? 0 : sequence.labels.back();
      sequence.labels.push_back(mix(last + 1 + choices_.below(2)));
    }
    sequence.names = names_of(sequence.labels, index);
    return announce(engine, sequence, before, sequence.names.size());
  }

  Op announce(Engine& engine, const Cached& sequence, std::size_t begin, std::size_t end) {
    Op op = of_kind(OpKind::kStore);
    if (begin > 0) op.parent = sequence.names[begin - 1];
    for (std::size_t i = begin; i < end; ++i) {
      op.labels.push_back(sequence.labels[i]);
      op.names.push_back(sequence.names[i]);
      ++engine.copies[sequence.names[i]];
    }
    op.namespace_seed = sequence.labels.empty() ? 0 : sequence.labels.front() % 3;
    return op;
  }

  Op evict(Engine& engine) {
    Op op = of_kind(OpKind::kRemove);
    if (engine.sequences.empty()) return op;
    Cached& victim = engine.sequences.front();
    std::size_t count = 1 + choices_.below(options_.max_length);
    if (engine.copies.size() < options_.capacity) count = std::min<std::size_t>(count, 2);
    const bool head_first = choices_.one_in(4);
    while (count-- > 0 && !victim.names.empty()) {
      const auto at = head_first ? victim.names.begin() : std::prev(victim.names.end());
      const auto copy = engine.copies.find(*at);
      if (copy != engine.copies.end()) {
        op.names.push_back(*at);
        if (--copy->second == 0) engine.copies.erase(copy);
      }
      victim.names.erase(at);
    }
    if (victim.names.empty()) engine.sequences.pop_front();
    return op;
  }

  Op forget(Engine& engine) {
    engine = Engine{};
    return of_kind(choices_.one_in(2) ? OpKind::kRelease : OpKind::kClear);
  }

  Op chaos(Engine& engine) {
    Op op = with_labels(choices_.one_in(3) ? OpKind::kRemove : OpKind::kStore, request());
    op.namespace_seed = op.labels.empty() ? 0 : op.labels.front() % 3;
    for (std::size_t i = 0; i < op.labels.size(); ++i) {
      op.names.push_back(choices_.one_in(3) ? choices_.below(8) : mix(op.labels[i]));
    }
    if (choices_.one_in(2)) {
      op.parent = choices_.one_in(2) ? choices_.below(8) : any_name(engine);
      op.namespace_seed = kInherit;
    }
    return op;
  }

  std::uint64_t any_name(const Engine& engine) {
    if (engine.copies.empty()) return 1;
    const auto size = static_cast<std::uint32_t>(engine.copies.size());
    return std::next(engine.copies.begin(), choices_.below(size))->first;
  }

 public:
  /// The namespace of a store that takes its parent's, whatever that is.
  static constexpr std::uint64_t kInherit = ~std::uint64_t{0};

 private:
  Choices& choices_;
  GeneratorOptions options_;
  std::vector<Engine> engines_;
  Nanoseconds now_ = 0;
};

}  // namespace kvroute::testing
