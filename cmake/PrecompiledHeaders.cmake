# Headers that most files include, parsed once per kind of target. Off by default, also in preset
# dev: there each file must itself include what it needs.
option(KVROUTE_PRECOMPILED_HEADERS "Precompile what most files include (sanitizer builds)" OFF)

function(kvroute_precompile target)
  if(KVROUTE_PRECOMPILED_HEADERS)
    target_precompile_headers(
      ${target}
      PRIVATE
      ${ARGN}
      <algorithm>
      <array>
      <atomic>
      <bit>
      <chrono>
      <cmath>
      <cstdint>
      <functional>
      <limits>
      <map>
      <memory>
      <mutex>
      <optional>
      <shared_mutex>
      <span>
      <string>
      <string_view>
      <tuple>
      <unordered_map>
      <utility>
      <variant>
      <vector>)
  endif()
endfunction()
