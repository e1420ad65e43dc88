#pragma once

#include <optional>
#include <string_view>

#include "kvroute/hash/block_hash.h"
#include "pybind.h"

namespace kvroute::python {

/// A str argument that may be None; views the str's own UTF-8, so it lives as long as the call.
using OptionalText = std::optional<std::string_view>;

[[nodiscard]] inline Namespace make_namespace(OptionalText lora, OptionalText salt,
                                              OptionalText name_space) noexcept {
  return {.lora = lora.value_or(std::string_view()),
          .salt = salt.value_or(std::string_view()),
          .tenant = name_space.value_or(std::string_view())};
}

}  // namespace kvroute::python
