#include "workload_file.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <stdexcept>

namespace kvroute::bench {
namespace {

static_assert(std::endian::native == std::endian::little);

using Words = std::vector<std::uint64_t>;

void write_words(std::ofstream& file, std::span<const std::uint64_t> words) {
  file.write(reinterpret_cast<const char*>(words.data()),
             static_cast<std::streamsize>(words.size_bytes()));
}

Words read_words(std::ifstream& file, std::size_t count) {
  Words words(count);
  file.read(reinterpret_cast<char*>(words.data()),
            static_cast<std::streamsize>(count * sizeof(std::uint64_t)));
  if (!file) throw std::runtime_error("the workload file ends early");
  return words;
}

}  // namespace

void write_workload(const Workload& workload, const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  std::uint64_t asked = 0;
  for (const auto& labels : workload.lookups) asked += labels.size();
  write_words(file, Words{kWorkloadMagic, workload.events.size(), workload.block_holders,
                          workload.lookups.size(), asked});
  for (const StoreEvent& event : workload.events) {
    write_words(file, Words{event.slot, event.parent.has_value() ? 1U : 0U,
                            event.parent.value_or(0), event.names.size()});
  }
  for (const StoreEvent& event : workload.events) write_words(file, event.names);
  for (const StoreEvent& event : workload.events) write_words(file, event.labels);
  for (const auto& labels : workload.lookups) write_words(file, Words{labels.size()});
  for (const auto& labels : workload.lookups) write_words(file, labels);
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

FlatWorkload::FlatWorkload(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const Words head = read_words(file, 5);
  if (head[0] != kWorkloadMagic) throw std::runtime_error(path + " is no workload");
  const Words rows = read_words(file, head[1] * 4);
  names_ = read_words(file, head[2]);
  labels_ = read_words(file, head[2]);
  removed_.reserve(names_.size());
  const Words lengths = read_words(file, head[3]);
  asked_ = read_words(file, head[4]);

  events_.reserve(head[1]);
  std::size_t begin = 0;
  for (std::size_t row = 0; row < rows.size(); row += 4) {
    const std::size_t count = rows[row + 3];
    const auto names = std::span(names_).subspan(begin, count);
    removed_.insert(removed_.end(), names.rbegin(), names.rend());
    events_.push_back({.slot = static_cast<Slot>(rows[row]),
                       .parent = rows[row + 1] != 0 ? std::optional(rows[row + 2]) : std::nullopt,
                       .names = names,
                       .labels = std::span(labels_).subspan(begin, count),
                       .removed = std::span(removed_).subspan(begin, count)});
    begin += count;
  }
  lookups_.reserve(lengths.size());
  begin = 0;
  for (const std::uint64_t length : lengths) {
    lookups_.push_back(std::span(asked_).subspan(begin, length));
    begin += length;
  }
}

void FlatWorkload::relabel(std::uint64_t key) {
  for (Words* words : {&names_, &labels_, &removed_}) {
    for (std::uint64_t& word : *words) word ^= key;
  }
  for (Event& event : events_) {
    if (event.parent) *event.parent ^= key;
  }
}

}  // namespace kvroute::bench
