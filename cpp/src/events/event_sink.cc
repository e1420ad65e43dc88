#include "kvroute/events/event_sink.h"

namespace kvroute {

std::string_view to_string(InvalidationReason reason) noexcept {
  switch (reason) {
    case InvalidationReason::gap: return "gap";
    case InvalidationReason::replay: return "replay";
    case InvalidationReason::restart: return "restart";
    case InvalidationReason::undecodable: return "undecodable";
    case InvalidationReason::sink_error: return "sink_error";
  }
  return "unknown";
}

}  // namespace kvroute
