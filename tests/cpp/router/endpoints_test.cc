#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kvroute/base/error.h"
#include "kvroute/router/worker_spec.h"

namespace kvroute {
namespace {

using Endpoints = std::vector<std::string>;

TEST(EndpointsByRank, CountsPortsUpFromRankZero) {
  EXPECT_EQ(endpoints_by_rank({"tcp://10.0.0.1:5557"}, 3, "kv_events"),
            (Endpoints{"tcp://10.0.0.1:5557", "tcp://10.0.0.1:5558", "tcp://10.0.0.1:5559"}));
  EXPECT_EQ(endpoints_by_rank({"tcp://[::1]:5557"}, 2, "kv_events"),
            (Endpoints{"tcp://[::1]:5557", "tcp://[::1]:5558"}));
  EXPECT_EQ(endpoints_by_rank({"tcp://*:5557"}, 1, "kv_events"), (Endpoints{"tcp://*:5557"}));
}

TEST(EndpointsByRank, TakesOneForEachRankAsGiven) {
  const Endpoints given{"tcp://a:1", "ipc:///run/b"};
  EXPECT_EQ(endpoints_by_rank(given, 2, "kv_events"), given);
  EXPECT_TRUE(endpoints_by_rank({}, 2, "kv_events").empty());
}

TEST(EndpointsByRank, RefusesWhatIsNoEndpoint) {
  for (const std::string bad : {"", "tcp://", "tcp://a", "tcp://a:", "tcp://:5557", "a:5557",
                                "udp://a:5557", "tcp://a:65536", "tcp://a:-1", "tcp://a:5557x"}) {
    EXPECT_THROW((void)endpoints_by_rank({bad}, 1, "kv_events"), InvalidArgument) << bad;
  }
  EXPECT_THROW((void)endpoints_by_rank({"tcp://a:1", "tcp://a:2"}, 3, "x"), InvalidArgument);
  EXPECT_THROW((void)endpoints_by_rank({"tcp://a:65535"}, 2, "x"), InvalidArgument);
  EXPECT_THROW((void)endpoints_by_rank({"tcp://a:0"}, 2, "x"), InvalidArgument);
}

}  // namespace
}  // namespace kvroute
