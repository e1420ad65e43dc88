#include "index/mismatch.h"

#include <gtest/gtest.h>

#include <vector>

namespace kvroute::detail {
namespace {

TEST(Mismatch, EveryFormFindsTheFirstDifferenceAtEveryLength) {
  std::vector<MismatchFunction> forms{mismatch_portable, best_mismatch()};
  for (const MismatchFunction* form = runnable_mismatches(); *form != nullptr; ++form) {
    forms.push_back(*form);
  }
  for (const MismatchFunction form : forms) {
    for (std::size_t length = 0; length < 150; ++length) {
      std::vector<std::uint64_t> a(length + 1);
      for (std::size_t i = 0; i < a.size(); ++i) a[i] = i << 40;
      std::vector<std::uint64_t> b = a;
      b[length] = ~b[length];  // beyond the end: must not be looked at
      ASSERT_EQ(form(a.data(), b.data(), length), length);
      for (std::size_t at = 0; at < length; ++at) {
        b[at] ^= std::uint64_t{1} << (at % 64);
        ASSERT_EQ(form(a.data(), b.data(), length), at);
        b[at] = a[at];
      }
    }
  }
}

}  // namespace
}  // namespace kvroute::detail
