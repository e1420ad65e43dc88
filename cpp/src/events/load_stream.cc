#include "events/load_stream.h"

#include <exception>
#include <utility>

#include "kvroute/events/load_report.h"

namespace kvroute::detail {

LoadStream::LoadStream(const LoadStreamConfig& config, const SubscriberOptions& options)
    : config_(config), log_(options.log_interval) {}

void LoadStream::on_connected() noexcept {
  stats_.connected = true;
  if (std::exchange(ever_connected_, true)) ++stats_.reconnects;
}

void LoadStream::on_newest(std::string_view json, std::uint64_t superseded, Time now) {
  stats_.superseded += superseded;
  const std::string& name = config_.label.empty() ? config_.endpoint : config_.label;
  const std::optional<LoadReport> report = parse_load_report(json);
  if (!report) {
    ++stats_.undecodable;
    log_.log(LogLevel::kWarning, "load reports of " + name + ": one cannot be read", now);
    return;
  }
  ++stats_.batches;
  stats_.bytes += json.size();
  try {
    config_.sink->on_load(config_.dp_rank, *report);
  } catch (const std::exception& error) {
    ++stats_.sink_errors;
    log_.log(LogLevel::kError, "load reports of " + name + ": taking one failed: " + error.what(),
             now);
  }
}

}  // namespace kvroute::detail
