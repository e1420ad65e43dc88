#include "index_workload.h"

#include <string>
#include <unordered_set>
#include <utility>

#include "label_mixing.h"
#include "workload_traces.h"

namespace kvroute::bench {
namespace {

using Labels = std::vector<std::uint64_t>;

/// Collects events as engines would send them: what a worker lacks of a request.
class Collector {
 public:
  Collector(std::uint32_t slots, bool own_names) : own_names_(own_names), cached_(slots) {}

  void serve(Slot slot, const Labels& labels) {
    StoreEvent event;
    event.slot = slot;
    std::uint64_t name = own_names_ ? mix(slot) : 0;
    for (const std::uint64_t label : labels) {
      const std::uint64_t before = name;
      name = mix(name ^ label);
      if (!cached_[slot].insert(name).second) continue;
      if (event.names.empty() && label != labels.front()) event.parent = before;
      event.names.push_back(name);
      event.labels.push_back(label);
    }
    workload_.block_holders += event.names.size();
    if (!event.names.empty()) workload_.events.push_back(std::move(event));
  }
  /// `serve` on a worker that has served nothing and will serve nothing else.
  void serve_only(Slot slot, const Labels& labels) {
    serve(slot, labels);
    cached_[slot] = {};
  }
  void name_source(std::string source) { workload_.source = std::move(source); }
  void ask(Labels labels) { workload_.lookups.push_back(std::move(labels)); }
  [[nodiscard]] Workload take() { return std::move(workload_); }

 private:
  bool own_names_;
  std::vector<std::unordered_set<std::uint64_t>> cached_;
  Workload workload_;
};

/// Each request on a worker in turn.
void fill_in_turn(Collector& collector, std::uint32_t slots, Trace trace) {
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    collector.serve(static_cast<Slot>(i % slots), trace.requests[i]);
    collector.ask(std::move(trace.requests[i]));
  }
  collector.name_source(std::move(trace.source));
}

void fill_shared_head(Collector& collector, std::uint32_t slots) {
  for (std::uint64_t sequence = 0; sequence < 1'000; ++sequence) {
    Labels labels;
    for (std::uint64_t i = 0; i < 1'000; ++i) {
      labels.push_back(mix(i < 64 ? i : (sequence + 1) * 10'000 + i));
    }
    collector.serve(static_cast<Slot>(sequence % slots), labels);
    collector.ask(std::move(labels));
  }
}

void fill_one_sequence(Collector& collector, std::uint32_t slots) {
  Labels labels;
  for (std::uint64_t i = 0; i < 6'250; ++i) labels.push_back(mix(i));
  for (Slot slot = 0; slot < slots; ++slot) collector.serve_only(slot, labels);
  collector.ask(std::move(labels));
}

}  // namespace

Workload make_workload(Fill fill, std::uint32_t slots, bool own_names) {
  Collector collector(slots, own_names);
  switch (fill) {
    case Fill::kConversations: fill_in_turn(collector, slots, conversations()); break;
    case Fill::kSharedHead: fill_shared_head(collector, slots); break;
    case Fill::kOneSequence: fill_one_sequence(collector, slots); break;
    case Fill::kAgentic: fill_in_turn(collector, slots, agentic_sessions()); break;
  }
  return collector.take();
}

}  // namespace kvroute::bench
