#include "policy/gate/conditions.h"

namespace kvroute::detail {

bool no_session(const ScoreInput& input) noexcept { return !input.session; }

}  // namespace kvroute::detail
