#include <charconv>
#include <string_view>

#include "kvroute/base/error.h"
#include "kvroute/router/worker_spec.h"

namespace kvroute {
namespace {

constexpr std::uint32_t kMaxPort = 65'535;

[[noreturn]] void refuse(const char* field, const std::string& expected, const std::string& got) {
  throw InvalidArgument(std::string(field) + ": expected " + expected + ", got " + got);
}

// "tcp://host:5557" as "tcp://host:" and 5557.
struct TcpEndpoint {
  std::string_view head;
  std::uint32_t port = 0;
};

TcpEndpoint parse_tcp(std::string_view endpoint, const char* field) {
  constexpr std::string_view kScheme = "tcp://";
  constexpr const char* kExpected = "an endpoint like tcp://host:5557";
  const std::string quoted = "'" + std::string(endpoint) + "'";
  const std::size_t colon = endpoint.rfind(':');
  if (!endpoint.starts_with(kScheme) || colon <= kScheme.size()) refuse(field, kExpected, quoted);
  const std::string_view digits = endpoint.substr(colon + 1);
  TcpEndpoint parsed{endpoint.substr(0, colon + 1)};
  const char* const end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, parsed.port);
  if (result.ec != std::errc{} || result.ptr != end || parsed.port > kMaxPort) {
    refuse(field, kExpected, quoted);
  }
  return parsed;
}

}  // namespace

std::vector<std::string> endpoints_by_rank(const std::vector<std::string>& endpoints,
                                           std::uint32_t ranks, const char* field) {
  if (endpoints.empty()) return {};
  if (endpoints.size() != 1 && endpoints.size() != ranks) {
    refuse(field, "one endpoint, or one for each of the " + std::to_string(ranks) + " ranks",
           std::to_string(endpoints.size()));
  }
  if (endpoints.size() == ranks) {
    for (const auto& endpoint : endpoints) {
      if (!endpoint.starts_with("ipc://")) (void)parse_tcp(endpoint, field);
    }
    return endpoints;
  }
  const TcpEndpoint first = parse_tcp(endpoints.front(), field);
  if (first.port == 0) refuse(field, "a list of endpoints, since port 0 has no successor", "one");
  if (first.port + ranks - 1 > kMaxPort) {
    refuse(field, "ports up to 65535 for all " + std::to_string(ranks) + " ranks",
           "'" + endpoints.front() + "'");
  }
  std::vector<std::string> by_rank;
  by_rank.reserve(ranks);
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    by_rank.push_back(std::string(first.head) + std::to_string(first.port + rank));
  }
  return by_rank;
}

}  // namespace kvroute
