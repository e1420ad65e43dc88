#pragma once

#include <optional>
#include <sstream>
#include <string>

#include "kvroute/index/prefix_tree.h"

namespace kvroute::testing {

/// The first difference between an answer and the expected one, as a sentence.
class Differences {
 public:
  template <typename T, typename U>
  Differences& same(const char* what, const T& got, const U& expected) {
    if (first_ || got == static_cast<T>(expected)) return *this;
    std::ostringstream out;
    out << what << ": got " << got << ", expected " << expected;
    first_ = out.str();
    return *this;
  }
  [[nodiscard]] const std::optional<std::string>& first() const { return first_; }

 private:
  std::optional<std::string> first_;
};

[[nodiscard]] inline std::optional<std::string> difference(const StoreResult& got,
                                                           const StoreResult& expected) {
  return Differences()
      .same("applied", got.applied, expected.applied)
      .same("duplicates", got.duplicates, expected.duplicates)
      .same("aliased", got.aliased, expected.aliased)
      .same("confirmed", got.confirmed, expected.confirmed)
      .same("renamed", got.renamed, expected.renamed)
      .same("unknown", got.unknown, expected.unknown)
      .same("waiting", got.waiting, expected.waiting)
      .same("adopted", got.adopted, expected.adopted)
      .same("unknown_parent", got.unknown_parent, expected.unknown_parent)
      .first();
}

[[nodiscard]] inline std::optional<std::string> difference(const RemoveResult& got,
                                                           const RemoveResult& expected) {
  return Differences()
      .same("removed", got.removed, expected.removed)
      .same("kept", got.kept, expected.kept)
      .same("no longer waiting", got.waiting, expected.waiting)
      .same("unknown", got.unknown, expected.unknown)
      .first();
}

[[nodiscard]] inline std::optional<std::string> difference_of_sizes(const IndexStats& got,
                                                                    const IndexStats& expected) {
  return Differences()
      .same("held_exact", got.held_exact, expected.held_exact)
      .same("held_predicted", got.held_predicted, expected.held_predicted)
      .same("held_lower", got.held_lower, expected.held_lower)
      .same("waiting", got.waiting, expected.waiting)
      .same("pins", got.pins, expected.pins)
      .same("blocks", got.blocks, expected.blocks)
      .first();
}

/// Of what was counted from one moment (`got_then`, `expected_then`) to another.
[[nodiscard]] inline std::optional<std::string> difference_of_counters(
    const IndexStats& got, const IndexStats& got_then, const IndexStats& expected,
    const IndexStats& expected_then) {
  Differences differences;
  const auto counter = [&](const char* what, std::uint64_t IndexStats::*member) {
    differences.same(what, got.*member - got_then.*member,
                     expected.*member - expected_then.*member);
  };
  counter("stored in all", &IndexStats::stored);
  counter("duplicates in all", &IndexStats::duplicates);
  counter("confirmed in all", &IndexStats::confirmed);
  counter("renamed in all", &IndexStats::renamed);
  counter("unknown parents in all", &IndexStats::unknown_parents);
  counter("adopted in all", &IndexStats::adopted);
  counter("waited in vain in all", &IndexStats::waited_in_vain);
  counter("unknown removed in all", &IndexStats::unknown_removed);
  counter("predicted in all", &IndexStats::predicted);
  counter("expired in all", &IndexStats::expired);
  counter("outlived in all", &IndexStats::outlived);
  return differences.first();
}

}  // namespace kvroute::testing
