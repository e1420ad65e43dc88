#include "kvroute/router/allowed_set.h"

#include <utility>

#include "kvroute/base/error.h"

namespace kvroute {

AllowedSet::AllowedSet(std::vector<WorkerRef> refs) : refs_(std::move(refs)) {
  if (refs_.empty()) {
    throw InvalidArgument("allowed: expected at least one worker, got none");
  }
}

}  // namespace kvroute
