// LoadModel: targets, picks and reports.

#include "kvroute/load/load_model.h"

#include <algorithm>

namespace kvroute {
namespace {

LoadOptions checked(const LoadOptions& options) {
  options.check();
  return options;
}

}  // namespace

LoadModel::LoadModel(const LoadOptions& options) : options_(checked(options)) {
  fleet_.prefill = options_.prefill;
  fleet_.recent_time_constant = options_.recent_time_constant;
  fleet_.window_seconds = options_.window_seconds;
  fleet_.report_lifetime_seconds = options_.report_lifetime_seconds;
}

bool LoadModel::has_target(Slot slot) const noexcept {
  return slot < targets_.size() && targets_[slot].present;
}

void LoadModel::add_target(Slot slot, Nanoseconds now) {
  if (slot >= loads_.size()) {
    targets_.resize(slot + 1);
    histories_.resize(slot + 1);
    loads_.resize(slot + 1);
    revisions_.resize(slot + 1);
  }
  targets_[slot].present = true;
  loads_[slot].joined_at = now;
  (void)changing(slot);
  ++fleet_.targets;
  fleet_.arrival_memory = kArrivalMemory * fleet_.targets;
}

std::vector<Booking> LoadModel::remove_target(Slot slot) {
  std::vector<Booking> ended;
  if (!has_target(slot)) return ended;
  Target& target = targets_[slot];
  ended.reserve(loads_[slot].requests);
  while (Running* const running = target.prefilling.front()) ended.push_back(end(*running, 0));
  while (Running* const running = target.decoding.front()) ended.push_back(end(*running, 0));
  target = {};
  loads_[slot] = {};
  (void)changing(slot);
  histories_[slot] = {};
  --fleet_.targets;
  fleet_.arrival_memory = kArrivalMemory * std::max(1U, fleet_.targets);
  return ended;
}

TargetLoad& LoadModel::changing(Slot slot) noexcept {
  revisions_[slot] = ++last_revision_;
  return loads_[slot];
}

void LoadModel::drop_blocks(Slot slot, std::uint64_t blocks) {
  TargetLoad& load = changing(slot);
  load.prompt_blocks -= std::min(load.prompt_blocks, blocks);
}

void LoadModel::report(Slot slot, const EngineLoad& report, Nanoseconds now) {
  if (!has_target(slot)) return;
  TargetLoad& load = changing(slot);
  if (report.waiting) {
    load.reported.waiting = report.waiting;
    load.reported_times.waiting = now;
    load.unreported = 0;
    load.unfinished = 0;
    ++targets_[slot].report;
  }
  if (report.running) {
    load.reported.running = report.running;
    load.reported_times.running = now;
  }
  if (report.kv_usage) {
    load.reported.kv_usage = report.kv_usage;
    load.reported_times.kv_usage = now;
  }
  load.reported_at = now;
  ++load.reports;
}

void LoadModel::note_pick(Slot slot, std::uint64_t uncached_tokens, Nanoseconds now) {
  TargetLoad& load = changing(slot);
  const auto tokens = static_cast<double>(uncached_tokens);
  ++load.unreported;
  ++load.unfinished;
  ++load.selections;
  load.recent_requests.add(1, now, fleet_.recent_time_constant);
  load.recent_tokens.add(tokens, now, fleet_.recent_time_constant);
  histories_[slot].requests.add(tokens, now, fleet_.window_seconds);
}

}  // namespace kvroute
