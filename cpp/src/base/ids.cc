#include "kvroute/base/ids.h"

namespace kvroute {

std::string to_string(const WorkerName& name) {
  if (const auto* number = std::get_if<std::int64_t>(&name)) return std::to_string(*number);
  return '"' + std::get<std::string>(name) + '"';
}

std::string to_string(const TargetId& target) {
  return to_string(target.worker) + " rank " + std::to_string(target.dp_rank);
}

}  // namespace kvroute
