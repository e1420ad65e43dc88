#pragma once

#include <string>

#include "kvroute/base/clock.h"
#include "kvroute/base/ids.h"
#include "kvroute/router/selection.h"

namespace kvroute {

/// One decision of the past, with everything it rested on then.
struct DecisionRecord {
  Nanoseconds at = 0;      ///< by the router's clock
  std::string request_id;  ///< empty where nothing was booked
  TargetId chosen;
  Explanation explanation;
};

}  // namespace kvroute
