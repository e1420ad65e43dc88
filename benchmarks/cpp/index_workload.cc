#include "index_workload.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <unordered_set>

#include "kvroute/base/random.h"

namespace kvroute::bench {
namespace {

using Labels = std::vector<std::uint64_t>;

std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

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
  void ask(Labels labels) { workload_.lookups.push_back(std::move(labels)); }
  [[nodiscard]] Workload take() { return std::move(workload_); }

 private:
  bool own_names_;
  std::vector<std::unordered_set<std::uint64_t>> cached_;
  Workload workload_;
};

std::vector<Labels> read_trace(const std::string& path) {
  std::vector<Labels> requests;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t begin = line.find("\"hash_ids\"");
    if (begin == std::string::npos) continue;
    Labels labels;
    const char* at = line.c_str() + line.find('[', begin) + 1;
    while (*at != ']' && *at != '\0') {
      char* end = nullptr;
      labels.push_back(mix(std::strtoull(at, &end, 10)));
      if (end == at) break;
      at = end + std::strspn(end, ", ");
    }
    if (!labels.empty()) requests.push_back(std::move(labels));
  }
  return requests;
}

/// Chats of several turns that share their first block, interleaved: 12,031 requests of 24 blocks
/// in the mean, of which a third continue an earlier one.
std::vector<Labels> generate_trace() {
  Random random(42);
  std::vector<Labels> requests;
  std::vector<Labels> chats;
  std::uint64_t next = 1;
  while (requests.size() < 12'031) {
    if (chats.size() < 2'000 || random.below(3) != 0) {
      chats.push_back({mix(0)});
      if (chats.size() > 4'000) chats.erase(chats.begin(), chats.begin() + 1'000);
      std::swap(chats.back(), chats[random.below(chats.size())]);
    }
    Labels& chat = chats[random.below(chats.size())];
    const std::uint64_t more = 1 + random.below(chat.size() == 1 ? 40 : 12);
    for (std::uint64_t i = 0; i < more; ++i) chat.push_back(mix(next++));
    requests.push_back(chat);
  }
  return requests;
}

void fill_conversations(Collector& collector, std::uint32_t slots) {
  const char* folder = std::getenv("KVROUTE_TRACES");
  std::vector<Labels> requests;
  if (folder != nullptr) requests = read_trace(std::string(folder) + "/conversation_trace.jsonl");
  if (requests.empty()) requests = generate_trace();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    collector.serve(static_cast<Slot>(i % slots), requests[i]);
    collector.ask(requests[i]);
  }
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
  for (Slot slot = 0; slot < slots; ++slot) collector.serve(slot, labels);
  collector.ask(std::move(labels));
}

}  // namespace

Workload make_workload(Fill fill, std::uint32_t slots, bool own_names) {
  Collector collector(slots, own_names);
  switch (fill) {
    case Fill::kConversations: fill_conversations(collector, slots); break;
    case Fill::kSharedHead: fill_shared_head(collector, slots); break;
    case Fill::kOneSequence: fill_one_sequence(collector, slots); break;
  }
  return collector.take();
}

}  // namespace kvroute::bench
