#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace kvroute {

enum class LogLevel : std::uint8_t { kDebug = 10, kInfo = 20, kWarning = 30, kError = 40 };

struct LogRecord {
  LogLevel level;
  std::string message;
};

/// The core's log: a bounded queue (1,024 records) that native threads fill without ever waiting
/// for a reader, and that the binding's logging thread empties into Python's `logging`. When it is
/// full the newest record is dropped and counted; the next one that fits says how many were lost.
/// Thread-safe. A forked child begins with an empty log.
void log(LogLevel level, std::string message);

/// Waits up to `timeout_seconds` for the oldest record. Empty on timeout, or at once after
/// `close_log()`. Forever is not on offer: a caller that must stop has to look up now and then.
[[nodiscard]] std::optional<LogRecord> next_log_record(double timeout_seconds);

/// Wakes every waiting reader and makes later reads return at once. Records may still be written
/// (and are dropped when the queue is full). Used at interpreter exit.
void close_log();

}  // namespace kvroute
