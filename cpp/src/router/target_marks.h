#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvroute/base/ids.h"
#include "kvroute/policy/target_set.h"

namespace kvroute::detail {

/// What filters ask of the listed targets, each as a set: one lookup a request instead of one a
/// target. Not thread-safe.
class TargetMarks {
 public:
  void add(std::span<const Slot> slots, const std::map<std::string, std::string>& labels);
  /// Forgets all marks of these.
  void remove(std::span<const Slot> slots);

  void set_draining(std::span<const Slot> slots, bool draining);
  /// These LoRA adapters are resident, and no others.
  void set_loras(std::span<const Slot> slots, const std::vector<std::string>& loras);

  [[nodiscard]] const TargetSet& draining() const noexcept { return draining_; }
  /// Who has the adapter resident.
  [[nodiscard]] const TargetSet& with_lora(std::string_view lora) const;
  /// Who has a label of this name and value.
  [[nodiscard]] const TargetSet& with_label(std::string_view name, std::string_view value) const;
  /// Who has a label of this name, whatever its value.
  [[nodiscard]] const TargetSet& with_label(std::string_view name) const;

 private:
  using Sets = std::unordered_map<std::string, TargetSet>;

  [[nodiscard]] static const TargetSet& find(const Sets& sets, const std::string& key);
  static void erase(Sets& sets, std::span<const Slot> slots);

  TargetSet draining_;
  Sets loras_;
  Sets labels_;       // by name and value
  Sets label_names_;  // by name
};

}  // namespace kvroute::detail
