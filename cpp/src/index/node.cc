#include "index/node.h"

#include <algorithm>

namespace kvroute::detail {

const NodeExtras Node::kNone{};

bool NodeExtras::empty() const noexcept {
  return pins.empty() && predicted.empty() && expiry_ticket == 0 &&
         std::all_of(lower.begin(), lower.end(), [](const Coverage& c) { return c.empty(); });
}

NodeExtras& Node::make_extras(std::size_t& node_bytes) {
  if (extras_ == nullptr) {
    extras_ = std::make_unique<NodeExtras>();
    node_bytes += sizeof(NodeExtras);
  }
  return *extras_;
}

void Node::tidy_extras(std::size_t& node_bytes) noexcept {
  if (extras_ == nullptr || !extras_->empty()) return;
  extras_.reset();
  node_bytes -= sizeof(NodeExtras);
}

bool Node::has_lower() const noexcept {
  return extras_ != nullptr && std::any_of(extras_->lower.begin(), extras_->lower.end(),
                                           [](const Coverage& c) { return !c.empty(); });
}

std::uint32_t Node::needed() const noexcept {
  std::uint32_t end = coverage.end(length);
  if (extras_ == nullptr || end == length) return end;
  end = std::max(end, extras_->pins.end());
  for (const Coverage& lower : extras_->lower) end = std::max(end, lower.end(length));
  return end;
}

bool Node::holds_exactly(Slot slot, Tier tier, std::uint32_t at) const noexcept {
  if (!coverage_in(tier).holds(slot, at)) return false;
  return tier != Tier::device || extras_ == nullptr || !extras_->predicted.contains(slot, at);
}

}  // namespace kvroute::detail
