#include "router/eligibility.h"

#include <algorithm>
#include <map>
#include <string>

#include "kvroute/base/error.h"

namespace kvroute::detail {
namespace {

constexpr std::string_view kModelLabel = "model";

std::string workers_for(Phase phase) {
  switch (phase) {
    case Phase::kWhole: return "worker";
    case Phase::kPrefill: return "worker for the prefill";
    case Phase::kDecode: return "worker for the decode";
  }
  return "worker";
}

auto is_one_of(std::span<const Slot> slots) {
  return [slots](Slot slot) { return std::binary_search(slots.begin(), slots.end(), slot); };
}

}  // namespace

std::span<const Slot> Eligibility::allowed(const Request& request, const TargetTable& targets) {
  if (request.allowed_set != nullptr) {
    allowed_set_ = targets.slots_of(*request.allowed_set);
    return *allowed_set_;
  }
  targets.slots_of(*request.allowed, allowed_);
  return allowed_;
}

void Eligibility::find(const Request& request, const TargetTable& targets, bool reasons) {
  some_were_overloaded_ = false;
  const bool is_restricted = request.allowed != nullptr || request.allowed_set != nullptr;
  if (!is_restricted || reasons) {
    eligible_.begin(targets.listed(), reasons);
    if (is_restricted) eligible_.keep_if(is_one_of(allowed(request, targets)), Exclusion::allowed);
  } else {
    eligible_.begin(allowed(request, targets));
  }
  if (request.pinned) {
    targets.slots_of(std::span(&*request.pinned, 1), pinned_, "pinned");
    eligible_.keep_if(is_one_of(pinned_), Exclusion::pinned);
  }
  if (request.dp_ranks) {
    eligible_.keep_if(
        [&](Slot slot) {
          const auto [first, last] = *request.dp_ranks;
          const std::uint32_t rank = targets.target(slot).dp_rank;
          return rank >= first && rank <= last;
        },
        Exclusion::rank);
  }
  const TargetMarks& marks = targets.marks();
  for (const LabelRef& label : request.labels) {
    eligible_.keep(marks.with_label(label.name, label.value), Exclusion::label);
  }
  if (!request.model.empty()) {
    const TargetSet& of_any = marks.with_label(kModelLabel);
    const TargetSet& of_this = marks.with_label(kModelLabel, request.model);
    eligible_.keep_if([&](Slot slot) { return !of_any.contains(slot) || of_this.contains(slot); },
                      Exclusion::model);
  }
  eligible_.drop(marks.draining(), Exclusion::draining);
  if (!request.name.lora.empty()) {
    eligible_.prefer(marks.with_lora(request.name.lora), Exclusion::lora);
  }
}

void Eligibility::drop_overloaded(const OverloadLimits& limits, const ScoreInput& input) {
  const std::size_t before = eligible_.slots().size();
  kvroute::drop_overloaded(eligible_, limits, input);
  some_were_overloaded_ = eligible_.slots().size() < before;
}

void Eligibility::require_somebody(const Request& request, const TargetTable& targets) {
  if (!eligible_.slots().empty()) return;
  if (targets.listed().empty()) {
    throw NoEligibleWorker("no workers: add one with add_worker before selecting", request.phase);
  }
  const std::string worker = workers_for(request.phase);
  if (some_were_overloaded_) {
    throw Overloaded("overloaded: every eligible " + worker + " is beyond a limit of its load",
                     request.phase);
  }
  find(request, targets, true);
  std::map<Exclusion, std::size_t> counts;
  for (const auto& [slot, why] : eligible_.excluded()) ++counts[why];
  std::string message =
      "no eligible " + worker + " among " + std::to_string(targets.listed().size()) + " targets";
  const char* separator = ": ";
  for (const auto& [why, count] : counts) {
    message += separator + std::to_string(count) + " " + std::string(reason_of(why));
    separator = ", ";
  }
  throw NoEligibleWorker(message, request.phase);
}

void find_preferences(const Request& request, const TargetTable& targets,
                      std::span<const Slot> slots, std::vector<double>& preferences) {
  preferences.clear();
  if (request.preferred_labels.empty()) return;
  preferences.resize(targets.slot_count());
  for (const LabelRef& label : request.preferred_labels) {
    const TargetSet& labelled = targets.marks().with_label(label.name, label.value);
    for (const Slot slot : slots) {
      if (labelled.contains(slot)) preferences[slot] += label.weight;
    }
  }
}

}  // namespace kvroute::detail
