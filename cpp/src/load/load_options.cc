#include "kvroute/load/load_options.h"

#include <sstream>
#include <string>

#include "kvroute/base/error.h"

namespace kvroute {
namespace {

[[noreturn]] void refuse(const char* field, const std::string& expected, double value) {
  std::ostringstream message;
  message << field << ": expected " << expected << ", got " << value;
  throw InvalidArgument(message.str());
}

// False for a NaN too.
bool is_positive(double value) { return value > 0 && value <= 1e9; }

void check_seconds(double value, const char* field) {
  if (!is_positive(value)) refuse(field, "seconds, 0 < x <= 1e9", value);
}

}  // namespace

void LoadOptions::check() const {
  check_seconds(reservation_ttl_seconds, "reservation_ttl");
  if (max_bookings == 0) refuse("max_bookings", "at least 1", 0);
  if (!is_positive(prefill.tokens_per_second)) {
    refuse("prefill_tokens_per_second", "tokens a second, 0 < x <= 1e9", prefill.tokens_per_second);
  }
  const bool attends = prefill.attention_seconds >= 0 && prefill.attention_seconds <= 1;
  if (!attends) {
    refuse("attention_seconds", "seconds, 0 <= x <= 1", prefill.attention_seconds);
  }
  check_seconds(recent_time_constant, "recent_time_constant");
  check_seconds(window_seconds, "load_window");
  check_seconds(report_lifetime_seconds, "report_lifetime");
}

}  // namespace kvroute
