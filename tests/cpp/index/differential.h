#pragma once

#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "bounded_tree.h"
#include "checked_tree.h"
#include "choices.h"
#include "event_generator.h"

namespace kvroute::testing {

/// What a run found, and how far it went.
struct DifferentialResult {
  std::optional<std::string> wrong;  // the first difference, with its step
  std::size_t operations = 0;
  IndexStats expected;  // at the end
};

/// Drives a tree beside its model (a CheckedTree or a BoundedTree) with `steps` generated
/// operations, or until the choices are used up; checks sizes and invariants each `check_every`,
/// and every block at the end.
template <typename Checked>
DifferentialResult drive(Checked& checked, Choices& choices, const GeneratorOptions& generator,
                         std::size_t steps, std::size_t check_every) {
  EventGenerator events(choices, generator);
  DifferentialResult result;
  std::optional<std::string> wrong;
  for (; result.operations < steps && !choices.exhausted() && !wrong; ++result.operations) {
    try {
      wrong = checked.apply(events.next());
    } catch (const std::exception& refused) {
      wrong = std::string("refused: ") + refused.what();
    }
    if (!wrong && result.operations % check_every == 0) wrong = checked.check();
  }
  if (!wrong) wrong = checked.check();
  if (!wrong) wrong = checked.check_slots();
  if (wrong) result.wrong = "operation " + std::to_string(result.operations) + ": " + *wrong;
  result.expected = checked.expected();
  return result;
}

/// One index and one fleet's traffic.
struct Scenario {
  IndexOptions index;
  GeneratorOptions generator;
};

/// A scenario drawn from the choices themselves, so that every seed is another one.
inline Scenario draw_scenario(Choices& choices) {
  Scenario scenario;
  IndexOptions& index = scenario.index;
  index.predicted_ttl_seconds = 1 + choices.below(60);
  index.count_copies = !choices.one_in(4);
  switch (choices.below(5)) {
    case 0: index.max_waiting = choices.below(2) * choices.below(30); break;
    case 1: index.max_waiting = 1 + choices.below(200); break;
    default: break;
  }
  GeneratorOptions& generator = scenario.generator;
  generator.slots = 1 + choices.below(6);
  if (choices.one_in(4)) generator.first_slot = 60 + choices.below(100);
  generator.alphabet = 1 + choices.below(4);
  generator.max_length = 3 + choices.below(120);
  generator.capacity = 20 + choices.below(200);
  generator.naming = static_cast<Naming>(choices.below(5));
  generator.few_labels = choices.one_in(4);
  generator.tiers = !choices.one_in(3);
  generator.unreliable = !choices.one_in(3);
  generator.predictive = !choices.one_in(3);
  generator.snapshots = !choices.one_in(3);
  generator.chaos = choices.one_in(2);
  if (generator.chaos || generator.naming == Naming::kReused) generator.namespaces = 1;
  return scenario;
}

/// A scenario whose traffic needs more memory than the index has.
inline Scenario draw_bounded_scenario(Choices& choices) {
  Scenario scenario = draw_scenario(choices);
  scenario.index.memory_limit = std::size_t{1} << 20;
  GeneratorOptions& generator = scenario.generator;
  generator.slots = 20 + choices.below(40);
  generator.alphabet = 3 + choices.below(4);
  generator.few_labels = false;
  generator.max_length = 300 + choices.below(600);
  generator.capacity = 20'000;
  generator.naming = static_cast<Naming>(choices.below(4));
  generator.chaos = false;
  return scenario;
}

inline DifferentialResult run_differential(Choices& choices, const Scenario& scenario,
                                           std::size_t steps, std::size_t check_every) {
  PrefixTree tree(scenario.index);
  CheckedTree checked(tree, scenario.index);
  return drive(checked, choices, scenario.generator, steps, check_every);
}

inline DifferentialResult run_bounded(Choices& choices, const Scenario& scenario, std::size_t steps,
                                      std::size_t check_every) {
  BoundedTree bounded(scenario.index);
  return drive(bounded, choices, scenario.generator, steps, check_every);
}

}  // namespace kvroute::testing
