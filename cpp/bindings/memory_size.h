#pragma once

#include <cstddef>
#include <optional>

#include "pybind.h"

namespace kvroute::python {

/// Bytes from None, an int, or a text such as "512MiB", "1.5GiB" or "2GB" (units B, kB, MB, GB, TB
/// by thousands, KiB, MiB, GiB, TiB by 1,024, in any case). \throws InvalidArgument
[[nodiscard]] std::optional<std::size_t> memory_size(py::handle object, const char* field);

}  // namespace kvroute::python
