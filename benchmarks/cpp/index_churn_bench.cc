// Whether the index's memory stops growing: 64 engines with caches of 16,384 blocks each serve
// chats over ever-new content, and announce what they store and evict. Prints every tenth of the
// run what the index says it occupies, what the allocator has given out, and what is resident; at
// the end whether the three stayed on a plateau.
//
//   index_churn_bench [--operations N] [--own-names]
//
// N blocks are stored or removed (20 million). --own-names: each engine names blocks its own way.
// Everything but the index allocates before the first operation, so that growth is the index's.

#include <malloc.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block_cache.h"
#include "kvroute/base/random.h"
#include "kvroute/index/prefix_tree.h"
#include "label_mixing.h"
#include "process_memory.h"

namespace kvroute::bench {
namespace {

constexpr std::size_t kEngines = 64;
constexpr std::size_t kCacheBlocks = 16'384;
constexpr std::size_t kSamples = 100;
constexpr std::size_t kWarmUp = kSamples / 5;
constexpr double kPlateau = 1.05;

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

/// 4,096 chats that live side by side: each begins with one of the system prompts of its time, and
/// grows until another takes its place.
class Chats {
 public:
  static constexpr std::size_t kLongest = 512;

  Chats() : chats_(4'096) {
    for (Chat& chat : chats_) begin(chat);
  }

  /// Appends the next request's labels. \return the engine that serves it
  Slot next(std::vector<std::uint64_t>& labels) {
    Chat& chat = chats_[random_.below(chats_.size())];
    chat.blocks += 1 + random_.below(32);
    if (chat.blocks > kLongest || random_.below(8) == 0) begin(chat);
    for (std::uint64_t i = 0; i < kSystemBlocks; ++i) labels.push_back(mix(chat.system << 16 | i));
    for (std::uint64_t i = 0; i < chat.blocks - kSystemBlocks; ++i) {
      labels.push_back(mix(chat.number << 16 | i));
    }
    // Most come back to where they were.
    if (random_.below(4) == 0) chat.engine = random_.below(kEngines);
    return static_cast<Slot>(chat.engine);
  }

 private:
  static constexpr std::uint64_t kSystemBlocks = 32;
  static constexpr std::uint64_t kSystemPrompts = 64;
  static constexpr std::uint64_t kChatsPerPrompt = 1'000;

  struct Chat {
    std::uint64_t number = 0;
    std::uint64_t system = 0;
    std::uint64_t blocks = 0;
    std::uint64_t engine = 0;
  };

  void begin(Chat& chat) {
    ++begun_;
    chat.number = begun_ << 1;
    chat.system = (begun_ / kChatsPerPrompt + random_.below(kSystemPrompts)) << 1 | 1;
    chat.blocks = kSystemBlocks + 1 + random_.below(64);
    chat.engine = random_.below(kEngines);
  }

  Random random_{7};
  std::uint64_t begun_ = 0;
  std::vector<Chat> chats_;
};

/// What the engines announce while they serve a few requests; so many that the clock is read
/// seldom.
class Announcements {
 public:
  explicit Announcements(bool own_names) : own_names_(own_names) {
    for (auto* words : {&labels_, &names_, &evicted_}) words->reserve(kRequests * Chats::kLongest);
    events_.reserve(kRequests);
  }

  /// The next requests; what was announced before is gone.
  void collect(Chats& chats, std::vector<BlockCache>& caches) {
    for (auto* words : {&labels_, &names_, &evicted_}) words->clear();
    events_.clear();
    while (events_.size() < kRequests) {
      const std::size_t begin = labels_.size();
      const std::size_t evicted = evicted_.size();
      const Slot slot = chats.next(labels_);
      std::uint64_t name = own_names_ ? mix(slot) : 0;
      for (std::size_t i = begin; i < labels_.size(); ++i) {
        names_.push_back(name = mix(name ^ labels_[i]));
      }
      const auto names = std::span(names_).subspan(begin);
      const std::size_t hits = caches[slot].serve(names, evicted_);
      events_.push_back({.slot = slot,
                         .evicted = std::span(evicted_).subspan(evicted),
                         .parent = hits > 0 ? std::optional(names[hits - 1]) : std::nullopt,
                         .names = names.subspan(hits),
                         .labels = std::span(labels_).subspan(begin + hits)});
    }
  }

  /// \return blocks removed and stored
  std::uint64_t apply(PrefixTree& tree) const {
    std::uint64_t blocks = 0;
    for (const Event& event : events_) {
      blocks += event.evicted.size() + event.names.size();
      if (!event.evicted.empty()) tree.remove(event.slot, event.evicted);
      if (event.names.empty()) continue;
      tree.store(event.slot, event.parent, event.names, event.labels);
    }
    return blocks;
  }

 private:
  static constexpr std::size_t kRequests = 64;

  struct Event {
    Slot slot = 0;
    std::span<const std::uint64_t> evicted;
    std::optional<std::uint64_t> parent;
    std::span<const std::uint64_t> names;
    std::span<const std::uint64_t> labels;
  };

  bool own_names_;
  std::vector<std::uint64_t> labels_;
  std::vector<std::uint64_t> names_;
  std::vector<std::uint64_t> evicted_;
  std::vector<Event> events_;
};

/// Bytes at one moment, without those from before the index was made.
struct Sample {
  double own = 0;
  double live = 0;
  double resident = 0;
};

double allocated() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks) + static_cast<double>(info.hblkhd);
}

/// Largest of a range of the samples, by kind.
Sample largest(const std::vector<Sample>& samples, std::size_t begin, std::size_t end) {
  Sample most;
  for (std::size_t i = begin; i < end; ++i) {
    most.own = std::max(most.own, samples[i].own);
    most.live = std::max(most.live, samples[i].live);
    most.resident = std::max(most.resident, samples[i].resident);
  }
  return most;
}

bool report(const std::vector<Sample>& samples) {
  const std::size_t middle = (kWarmUp + samples.size()) / 2;
  const Sample first = largest(samples, kWarmUp, middle);
  const Sample last = largest(samples, middle, samples.size());
  double least = 1e300;
  double most = 0;
  for (std::size_t i = kWarmUp; i < samples.size(); ++i) {
    least = std::min(least, samples[i].own / samples[i].live);
    most = std::max(most, samples[i].own / samples[i].live);
  }
  const bool flat = last.own <= kPlateau * first.own && last.live <= kPlateau * first.live &&
                    last.resident <= kPlateau * first.resident;
  std::printf(
      "largest of the second half to that of the first, after a warm-up of %zu %%: "
      "own %+.1f %%, live %+.1f %%, resident %+.1f %%\n",
      100 * kWarmUp / kSamples, 100 * (last.own / first.own - 1),
      100 * (last.live / first.live - 1), 100 * (last.resident / first.resident - 1));
  std::printf("own count to live bytes: %.3f to %.3f; within 10 %%: %s\n", least, most,
              least >= 0.9 && most <= 1.1 ? "yes" : "no");
  std::printf("plateau: %s\n", flat ? "yes" : "no");
  return flat;
}

/// \return whether memory reached a plateau, and everything announced is held.
bool churn(std::uint64_t operations, bool own_names) {
  Chats chats;
  std::vector<BlockCache> caches(kEngines, BlockCache(kCacheBlocks));
  Announcements announcements(own_names);
  std::vector<Sample> samples;
  samples.reserve(kSamples);
  const double live_before = allocated();
  const auto resident_before = static_cast<double>(resident_bytes());

  PrefixTree tree;
  std::printf(
      "%zu engines of %zu blocks, %.0f M operations, %s names\n"
      "%12s %12s %10s %10s %12s %12s %8s\n",
      kEngines, kCacheBlocks, static_cast<double>(operations) * 1e-6, own_names ? "own" : "shared",
      "operations", "held", "own MB", "live MB", "resident MB", "B/holder", "M ops/s");
  double busy = 0;
  double busy_before = 0;
  std::uint64_t done = 0;
  std::uint64_t done_before = 0;
  while (samples.size() < kSamples) {
    announcements.collect(chats, caches);
    const double begin = thread_seconds();
    done += announcements.apply(tree);
    busy += thread_seconds() - begin;
    if (done < operations / kSamples * (samples.size() + 1)) continue;

    const IndexStats stats = tree.stats();
    samples.push_back({static_cast<double>(stats.bytes.total()), allocated() - live_before,
                       static_cast<double>(resident_bytes()) - resident_before});
    if (samples.size() % (kSamples / 10) != 0) continue;
    const Sample& now = samples.back();
    std::printf("%12llu %12zu %10.1f %10.1f %12.1f %12.1f %8.1f\n",
                static_cast<unsigned long long>(done), stats.held_exact, now.own * 1e-6,
                now.live * 1e-6, now.resident * 1e-6,
                now.live / static_cast<double>(stats.held_exact),
                static_cast<double>(done - done_before) / (busy - busy_before) * 1e-6);
    std::fflush(stdout);
    done_before = done;
    busy_before = busy;
  }

  std::size_t cached = 0;
  for (const BlockCache& cache : caches) cached += cache.size();
  const std::size_t held = tree.stats().held_exact;
  if (held != cached) std::printf("wrong: %zu blocks cached, %zu held\n", cached, held);
  return report(samples) && held == cached;
}

}  // namespace
}  // namespace kvroute::bench

int main(int argc, char** argv) {
  try {
    std::uint64_t operations = 20'000'000;
    bool own_names = false;
    for (int i = 1; i < argc; ++i) {
      const std::string argument = argv[i];
      if (argument == "--operations" && i + 1 < argc) {
        operations = std::stoull(argv[++i]);
      } else if (argument == "--own-names") {
        own_names = true;
      } else {
        std::fprintf(stderr, "index_churn_bench [--operations N] [--own-names]\n");
        return 2;
      }
    }
    return kvroute::bench::churn(operations, own_names) ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "index_churn_bench: %s\n", error.what());
    return 1;
  }
}
