#include "router/target_marks.h"

#include <iterator>

namespace kvroute::detail {
namespace {

// Names and values are any text: the length keeps ("a", "bc") and ("ab", "c") apart.
std::string key_of(std::string_view name, std::string_view value) {
  std::string key = std::to_string(name.size());
  key += ':';
  key += name;
  key += value;
  return key;
}

}  // namespace

void TargetMarks::add(std::span<const Slot> slots,
                      const std::map<std::string, std::string>& labels) {
  for (const auto& [name, value] : labels) {
    TargetSet& of_value = labels_[key_of(name, value)];
    TargetSet& of_name = label_names_[name];
    for (const Slot slot : slots) {
      of_value.insert(slot);
      of_name.insert(slot);
    }
  }
}

void TargetMarks::remove(std::span<const Slot> slots) {
  set_draining(slots, false);
  erase(loras_, slots);
  erase(labels_, slots);
  erase(label_names_, slots);
}

void TargetMarks::set_draining(std::span<const Slot> slots, bool draining) {
  for (const Slot slot : slots) {
    if (draining) {
      draining_.insert(slot);
    } else {
      draining_.erase(slot);
    }
  }
}

void TargetMarks::set_loras(std::span<const Slot> slots, const std::vector<std::string>& loras) {
  erase(loras_, slots);
  for (const std::string& lora : loras) {
    TargetSet& holders = loras_[lora];
    for (const Slot slot : slots) holders.insert(slot);
  }
}

const TargetSet& TargetMarks::with_lora(std::string_view lora) const {
  return find(loras_, std::string(lora));
}

const TargetSet& TargetMarks::with_label(std::string_view name, std::string_view value) const {
  return find(labels_, key_of(name, value));
}

const TargetSet& TargetMarks::with_label(std::string_view name) const {
  return find(label_names_, std::string(name));
}

const TargetSet& TargetMarks::find(const Sets& sets, const std::string& key) {
  static const TargetSet nobody;
  const auto found = sets.find(key);
  return found == sets.end() ? nobody : found->second;
}

void TargetMarks::erase(Sets& sets, std::span<const Slot> slots) {
  for (auto entry = sets.begin(); entry != sets.end();) {
    for (const Slot slot : slots) entry->second.erase(slot);
    entry = entry->second.empty() ? sets.erase(entry) : std::next(entry);
  }
}

}  // namespace kvroute::detail
