#include "workload_traces.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

#include "kvroute/base/random.h"
#include "label_mixing.h"

namespace kvroute::bench {
namespace {

using Labels = std::vector<std::uint64_t>;

constexpr char kConversationFile[] = "conversation_trace.jsonl";
constexpr char kSessionFile[] = "claude_code_sessions.jsonl.gz";
constexpr std::size_t kEverySession = 16;

std::vector<Labels> read_conversations(const std::string& path) {
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

std::vector<Labels> generate_conversations() {
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

/// A request of a session, and when it comes, in seconds from the session's start.
struct Timed {
  double time = 0;
  Labels labels;
};

/// Sessions that begin together, as one stream of requests.
std::vector<Labels> interleaved(std::vector<Timed> timed) {
  std::stable_sort(timed.begin(), timed.end(),
                   [](const Timed& a, const Timed& b) { return a.time < b.time; });
  std::vector<Labels> requests;
  requests.reserve(timed.size());
  for (Timed& request : timed) requests.push_back(std::move(request.labels));
  return requests;
}

/// The number after `key` in a line of JSON.
std::optional<double> number_after(const std::string& line, const char* key) {
  const std::size_t at = line.find(key);
  if (at == std::string::npos) return std::nullopt;
  return std::strtod(line.c_str() + at + std::strlen(key), nullptr);
}

std::uint64_t label_in_session(std::size_t session, std::uint64_t block) {
  return mix(static_cast<std::uint64_t>(session) << 32 | block);
}

/// The lines of a packed file in the folder; empty if it cannot be read.
std::vector<std::string> unpacked_lines(const std::string& path) {
  std::vector<std::string> lines;
  if (!std::ifstream(path)) return lines;
  // The shell takes the folder from the environment, so that its name needs no quoting.
  const std::string command =
      std::string("exec gzip -dc < \"$KVROUTE_TRACES/") + kSessionFile + "\"";
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return lines;
  std::string line;
  std::array<char, 4096> buffer{};
  while (std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
    line += buffer.data();
    if (line.back() != '\n') continue;
    lines.push_back(std::move(line));
    line.clear();
  }
  if (pclose(pipe) != 0) lines.clear();
  return lines;
}

std::vector<Labels> read_sessions(const std::string& path) {
  std::vector<Timed> chosen;
  std::vector<Labels> session;
  std::size_t sessions = 0;
  for (const std::string& line : unpacked_lines(path)) {
    if (line.find("\"session\"") != std::string::npos) {
      ++sessions;
      session.clear();
    }
    if (sessions % kEverySession != 1) continue;
    const auto time = number_after(line, "\"t\":");
    const auto reference = number_after(line, "\"ref\":");
    const auto keep = number_after(line, "\"keep\":");
    const std::size_t tail = line.find("\"tail\":[");
    if (!time || !reference || !keep || tail == std::string::npos) return {};
    Labels labels;
    if (*reference >= 0) {
      const Labels& before = session.at(static_cast<std::size_t>(*reference));
      const std::size_t kept = std::min(static_cast<std::size_t>(*keep), before.size());
      labels.assign(before.begin(), before.begin() + static_cast<std::ptrdiff_t>(kept));
    }
    // Pairs of a first id and how many follow it.
    for (const char* at = line.c_str() + tail + std::strlen("\"tail\":[");
         (at = std::strpbrk(at, "[]")) != nullptr && *at == '[';) {
      char* end = nullptr;
      const std::uint64_t first = std::strtoull(at + 1, &end, 10);
      const std::uint64_t count = std::strtoull(end + 1, &end, 10);
      for (std::uint64_t i = 0; i < count; ++i) {
        labels.push_back(label_in_session(sessions, first + i));
      }
      at = end + 1;
    }
    session.push_back(labels);
    if (!labels.empty()) chosen.push_back({*time, std::move(labels)});
  }
  return interleaved(std::move(chosen));
}

std::vector<Labels> generate_sessions() {
  Random random(43);
  std::vector<Timed> timed;
  for (std::size_t session = 1; session <= 45; ++session) {
    std::uint64_t next = 0;
    double time = 0;
    Labels context;
    const auto extend = [&](Labels& labels, std::uint64_t more) {
      for (std::uint64_t i = 0; i < more; ++i) labels.push_back(label_in_session(session, next++));
    };
    extend(context, 250 + random.below(random.below(2) == 0 ? 150 : 3'000));
    for (std::uint64_t left = 12 + random.below(108); left > 0; --left) {
      time += 1 + static_cast<double>(random.below(60));
      if (random.below(12) == 0) {  // a sub-agent, with a context of its own
        Labels own;
        extend(own, 100 + random.below(500));
        timed.push_back({time, std::move(own)});
      } else {
        extend(context, 1 + random.below(random.below(20) == 0 ? 600 : 24));
        timed.push_back({time, context});
      }
    }
  }
  return interleaved(std::move(timed));
}

template <typename Read, typename Generate>
Trace read_or_generate(const char* name, Read read, Generate generate) {
  Trace trace;
  if (const char* folder = std::getenv("KVROUTE_TRACES"); folder != nullptr) {
    trace = {read(std::string(folder) + "/" + name), name};
  }
  if (trace.requests.empty()) trace = {generate(), "generated, like " + std::string(name)};
  return trace;
}

}  // namespace

Trace conversations() {
  return read_or_generate(kConversationFile, read_conversations, generate_conversations);
}

Trace agentic_sessions() {
  return read_or_generate(kSessionFile, read_sessions, generate_sessions);
}

}  // namespace kvroute::bench
