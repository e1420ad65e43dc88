#pragma once

#include <optional>
#include <string_view>

#include "kvroute/events/event_sink.h"

namespace kvroute {

/// Reads one load message, a JSON object with the keys `num_waiting_reqs` (a whole number, not
/// negative) and `kv_cache_usage` (a number from 0 to 1; up to 1.5 is taken as 1), as Dynamo's
/// `router_standalone` example sends it. Other keys are skipped, whatever they hold. Empty if the
/// text is not JSON, a key is missing, given twice, of another type or out of range, or nesting
/// passes 32. Strict (RFC 8259) but for the insides of skipped texts, which may hold any bytes.
[[nodiscard]] std::optional<LoadReport> parse_load_report(std::string_view json) noexcept;

}  // namespace kvroute
