#include "kvroute/base/ids.h"

#include <gtest/gtest.h>

#include <unordered_set>

namespace kvroute {
namespace {

TEST(WorkerName, KeepsNumbersAndTextsApart) {
  EXPECT_NE(WorkerName{std::int64_t{0}}, WorkerName{std::string{"0"}});
  const std::unordered_set<TargetId> targets{{WorkerName{std::int64_t{0}}, 0},
                                             {WorkerName{std::string{"0"}}, 0},
                                             {WorkerName{std::string{"0"}}, 1}};
  EXPECT_EQ(targets.size(), 3U);
}

TEST(WorkerName, ReadsAsAPersonWouldWriteIt) {
  EXPECT_EQ(to_string(WorkerName{std::int64_t{7}}), "7");
  EXPECT_EQ(to_string(TargetId{WorkerName{std::string{"w0"}}, 2}), "\"w0\" rank 2");
}

}  // namespace
}  // namespace kvroute
