#include "kvroute/base/log.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

namespace kvroute {
namespace {

TEST(Log, GivesRecordsInOrderAndNothingOnTimeout) {
  log(LogLevel::kWarning, "first");
  log(LogLevel::kError, "second");
  const auto first = next_log_record(1.0);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->message, "first");
  EXPECT_EQ(first->level, LogLevel::kWarning);
  EXPECT_EQ(next_log_record(1.0).value().message, "second");
  EXPECT_FALSE(next_log_record(0.0));
}

TEST(Log, WakesAWaitingReader) {
  std::thread writer([] { log(LogLevel::kInfo, "hello"); });
  const auto record = next_log_record(30.0);
  writer.join();
  ASSERT_TRUE(record);
  EXPECT_EQ(record->message, "hello");
}

TEST(Log, StaysBoundedAndSaysWhatWasLost) {
  for (int i = 0; i < 1034; ++i) log(LogLevel::kInfo, std::to_string(i));
  EXPECT_EQ(next_log_record(1.0).value().message, "0");
  log(LogLevel::kInfo, "after");
  std::string last;
  while (const auto record = next_log_record(0.0)) last = record->message;
  EXPECT_EQ(last, "after (10 earlier log records were lost)");
}

}  // namespace
}  // namespace kvroute
