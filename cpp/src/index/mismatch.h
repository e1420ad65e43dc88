#pragma once

#include <cstddef>
#include <cstdint>

namespace kvroute::detail {

/// Number of leading elements in which `a` and `b` agree, at most `n`. The fastest form that the
/// processor has, chosen at start.
using MismatchFunction = std::size_t (*)(const std::uint64_t* a, const std::uint64_t* b,
                                         std::size_t n);
[[nodiscard]] MismatchFunction best_mismatch() noexcept;

[[nodiscard]] std::size_t mismatch_portable(const std::uint64_t* a, const std::uint64_t* b,
                                            std::size_t n);
/// The other forms that this processor can run, ended by nullptr; for tests.
[[nodiscard]] const MismatchFunction* runnable_mismatches() noexcept;

}  // namespace kvroute::detail
