#include "kvroute/events/load_report.h"

#include <gtest/gtest.h>

#include <string>

#include "kvroute/base/random.h"

namespace kvroute {
namespace {

TEST(LoadReportTest, ReadsTheExamplesMessage) {
  const auto report = parse_load_report(R"({"num_waiting_reqs": 3, "kv_cache_usage": 0.25})");
  ASSERT_TRUE(report);
  EXPECT_EQ(report->waiting, 3U);
  EXPECT_DOUBLE_EQ(report->kv_usage, 0.25);
}

TEST(LoadReportTest, ReadsAnyOrderSpacingAndOtherKeys) {
  const auto report = parse_load_report(
      " {\n\"x\":[1,{\"y\":\"a\\\"b}\"},[]],\"kv_cache_usage\":1e-1 ,\"z\":null,"
      "\"t\":true,\"e\":{},\"n\":-0.5E+2,\"num_waiting_reqs\":0}\t");
  ASSERT_TRUE(report);
  EXPECT_EQ(report->waiting, 0U);
  EXPECT_DOUBLE_EQ(report->kv_usage, 0.1);
}

TEST(LoadReportTest, TakesIntegersAndUsageSlightlyAboveOne) {
  EXPECT_DOUBLE_EQ(
      parse_load_report(R"({"num_waiting_reqs":1,"kv_cache_usage":1})").value().kv_usage, 1.0);
  EXPECT_DOUBLE_EQ(
      parse_load_report(R"({"num_waiting_reqs":1,"kv_cache_usage":1.01})").value().kv_usage, 1.0);
}

TEST(LoadReportTest, RefusesAnythingElse) {
  const std::string deep = R"({"num_waiting_reqs":1,"kv_cache_usage":0,"x":)" +
                           std::string(50, '[') + std::string(50, ']') + "}";
  for (const std::string& text : {
           std::string(),
           std::string("{}"),
           std::string("[]"),
           std::string("null"),
           std::string(R"({"num_waiting_reqs":1})"),
           std::string(R"({"kv_cache_usage":1})"),
           std::string(R"({"num_waiting_reqs":-1,"kv_cache_usage":0})"),
           std::string(R"({"num_waiting_reqs":1.5,"kv_cache_usage":0})"),
           std::string(R"({"num_waiting_reqs":"1","kv_cache_usage":0})"),
           std::string(R"({"num_waiting_reqs":4294967296,"kv_cache_usage":0})"),
           std::string(R"({"num_waiting_reqs":1,"kv_cache_usage":NaN})"),
           std::string(R"({"num_waiting_reqs":1,"kv_cache_usage":-0.1})"),
           std::string(R"({"num_waiting_reqs":1,"kv_cache_usage":7})"),
           std::string(R"({"num_waiting_reqs":1,"kv_cache_usage":1e999})"),
           std::string(R"({"num_waiting_reqs":01,"kv_cache_usage":0})"),
           std::string(R"({"num_waiting_reqs":1,"kv_cache_usage":.5})"),
           std::string(R"({"num_waiting_reqs":1,"kv_cache_usage":0.})"),
           std::string(R"({"num_waiting_reqs":1,"num_waiting_reqs":1,"kv_cache_usage":0})"),
           std::string(R"({"num_waiting_reqs":1,"kv_cache_usage":0,})"),
           std::string(R"({"num_waiting_reqs":1,"kv_cache_usage":0} x)"),
           std::string(R"({"num_waiting_reqs":1,"kv_cache_usage":0)"),
           std::string(R"({"num_waiting_reqs":1,"kv_cache_usage":0,"x":"open)"),
           deep,
       }) {
    EXPECT_FALSE(parse_load_report(text)) << text;
  }
}

TEST(LoadReportTest, SurvivesDamage) {
  const std::string whole = R"({"num_waiting_reqs":12,"kv_cache_usage":0.5,"x":[{"a":"\u00e9"}]})";
  Random random(5);
  for (int round = 0; round < 50000; ++round) {
    std::string text = whole;
    for (std::uint64_t i = 0; i <= random.below(3); ++i) {
      text[random.below(text.size())] = static_cast<char>(random.below(128));
    }
    text.resize(text.size() - random.below(5));
    if (const auto report = parse_load_report(text)) {
      EXPECT_GE(report->kv_usage, 0.0);
      EXPECT_LE(report->kv_usage, 1.0);
    }
  }
}

}  // namespace
}  // namespace kvroute
